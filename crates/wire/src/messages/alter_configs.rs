//! Replaces all settings of a resource; what is not listed goes back to its default.

use crate::text::Text;

message! {
    AlterConfigs, "0-2", flexible "2+";

    /// The settings to be.
    Request {
        resources: Vec<AlterConfigsResource> => "0+";
        /// Check, but change nothing.
        validate_only: bool => "0+";
    }

    /// One resource and all its settings.
    AlterConfigsResource {
        resource_type: i8 => "0+";
        resource_name: Text => "0+";
        configs: Vec<AlterableConfig> => "0+";
    }

    /// One setting.
    AlterableConfig {
        name: Text => "0+";
        value: Option<Text> => "0+", nullable("0+");
    }

    /// What became of each.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+";
        responses: Vec<AlterConfigsResourceResponse> => "0+";
    }

    /// What became of one resource.
    AlterConfigsResourceResponse {
        error_code: i16 => "0+";
        error_message: Option<Text> => "0+", nullable("0+");
        resource_type: i8 => "0+";
        resource_name: Text => "0+";
    }
}
