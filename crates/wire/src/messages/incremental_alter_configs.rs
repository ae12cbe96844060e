//! Changes single settings of a resource and leaves the others alone.

use crate::text::Text;

message! {
    IncrementalAlterConfigs, "0-1", flexible "1+";

    /// The settings to change.
    Request {
        resources: Vec<AlterConfigsResource> => "0+";
        /// Check, but change nothing.
        validate_only: bool => "0+";
    }

    /// One resource and the changes to it.
    AlterConfigsResource {
        resource_type: i8 => "0+";
        resource_name: Text => "0+";
        configs: Vec<AlterableConfig> => "0+";
    }

    /// One change.
    AlterableConfig {
        name: Text => "0+";
        /// 0 set, 1 delete, 2 append to a list, 3 subtract from a list.
        config_operation: i8 => "0+";
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
