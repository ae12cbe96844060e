//! The Python clients: kafka-python, confluent-kafka (librdkafka) and aiokafka.

/// kafka-python.
mod kafka_python {
    use weir_tests::clients::Program;
    const PROGRAM: Program = Program::Python("python/kafka_python.py");
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

/// confluent-kafka.
mod confluent_kafka {
    use weir_tests::clients::Program;
    const PROGRAM: Program = Program::Python("python/confluent.py");
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

/// aiokafka.
mod aiokafka {
    use weir_tests::clients::Program;
    const PROGRAM: Program = Program::Python("python/aiokafka_.py");
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
