//! Names of everything that can have settings. Version 0 knows client metrics only.

use crate::text::Text;

message! {
    ListConfigResources, "0-1", flexible "0+";

    /// Asks for resources of certain types, or of all when none is given.
    Request {
        resource_types: Vec<i8> => "1+";
    }

    /// The resources.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+";
        error_code: i16 => "0+";
        config_resources: Vec<ConfigResource> => "0+";
    }

    /// One resource.
    ConfigResource {
        resource_name: Text => "0+";
        /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8 = 16 => "1+", ignorable();
    }
}
