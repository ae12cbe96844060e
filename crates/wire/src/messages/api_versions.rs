//! What the broker speaks: the first question of every client. The response header always has the old form, and the
//! answer to a version we do not have is a version 0 body with UNSUPPORTED_VERSION and the entry of this API itself.

use crate::text::Text;

message! {
    ApiVersions, "0-4", flexible "3+";

    /// Asks which APIs and versions there are; from version 3 on the client introduces itself.
    Request {
        client_software_name: Text => "3+", ignorable();
        client_software_version: Text => "3+", ignorable();
    }

    /// The APIs and features served.
    Response {
        error_code: i16 => "0+";
        api_keys: Vec<ApiVersion> => "0+";
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "1+", ignorable();
        supported_features: Vec<SupportedFeatureKey> => "3+", tagged(0, "3+"), ignorable();
        /// Grows with every change of the finalized features; −1 is unknown.
        finalized_features_epoch: i64 = -1 => "3+", tagged(1, "3+"), ignorable();
        finalized_features: Vec<FinalizedFeatureKey> => "3+", tagged(2, "3+"), ignorable();
        zk_migration_ready: bool => "3+", tagged(3, "3+"), ignorable();
    }

    /// One API and the versions of it that are served.
    ApiVersion {
        api_key: i16 => "0+";
        min_version: i16 => "0+";
        max_version: i16 => "0+";
    }

    /// A feature and the levels that the broker could run at.
    SupportedFeatureKey {
        name: Text => "3+";
        min_version: i16 => "3+";
        max_version: i16 => "3+";
    }

    /// A feature and the levels that the cluster runs at.
    FinalizedFeatureKey {
        name: Text => "3+";
        max_version_level: i16 => "3+";
        min_version_level: i16 => "3+";
    }
}
