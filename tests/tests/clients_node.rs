//! The JavaScript clients: kafkajs and @platformatic/kafka.

/// kafkajs.
mod kafkajs {
    use weir_tests::clients::Program;
    const PROGRAM: Program = Program::Node("node/kafkajs.mjs");
    weir_tests::scenarios!(
        PROGRAM,
        produce_consume,
        acks,
        group_rebalance,
        commit_resume,
        seek,
        compression,
        headers_nulls,
        large,
        tls,
        mutual_tls
    );
}

/// @platformatic/kafka.
mod platformatic {
    use weir_tests::clients::Program;
    const PROGRAM: Program = Program::Node("node/platformatic.mjs");
    weir_tests::scenarios!(
        PROGRAM,
        produce_consume,
        acks,
        group_rebalance,
        commit_resume,
        seek,
        compression,
        headers_nulls,
        large,
        tls,
        mutual_tls
    );
}
