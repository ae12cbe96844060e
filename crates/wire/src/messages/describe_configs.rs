//! Settings of topics (resource type 2), brokers (4) and others, with where each value comes from.

use crate::text::Text;

message! {
    DescribeConfigs, "1-4", flexible "4+";

    /// Asks for settings.
    Request {
        resources: Vec<DescribeConfigsResource> => "0+";
        include_synonyms: bool => "1+";
        include_documentation: bool => "3+";
    }

    /// Whose settings, and which.
    DescribeConfigsResource {
        resource_type: i8 => "0+";
        resource_name: Text => "0+";
        /// Null is every setting.
        configuration_keys: Option<Vec<Text>> = Some(Vec::new()) => "0+", nullable("0+");
    }

    /// The settings.
    Response {
        /// How long the broker asks the client to be quiet.
        throttle_time_ms: i32 => "0+";
        results: Vec<DescribeConfigsResult> => "0+";
    }

    /// The settings of one resource.
    DescribeConfigsResult {
        error_code: i16 => "0+";
        error_message: Option<Text> => "0+", nullable("0+");
        resource_type: i8 => "0+";
        resource_name: Text => "0+";
        configs: Vec<DescribeConfigsResourceResult> => "0+";
    }

    /// One setting.
    DescribeConfigsResourceResult {
        name: Text => "0+";
        /// Null for a secret.
        value: Option<Text> => "0+", nullable("0+");
        read_only: bool => "0+";
        /// 1 topic, 2 broker, 3 all brokers, 4 configuration file, 5 default.
        config_source: i8 = -1 => "1+", ignorable();
        is_sensitive: bool => "0+";
        synonyms: Vec<DescribeConfigsSynonym> => "1+", ignorable();
        /// 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password.
        config_type: i8 => "3+", ignorable();
        documentation: Option<Text> => "3+", nullable("0+"), ignorable();
    }

    /// A place where the value could have come from, the effective one first.
    DescribeConfigsSynonym {
        name: Text => "1+";
        value: Option<Text> => "1+", nullable("0+");
        source: i8 => "1+";
    }
}
