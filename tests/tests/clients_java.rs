//! The console tools of Apache Kafka, which are the Java client.

use weir_tests::clients::Program;

const PROGRAM: Program = Program::Python("java/console.py");

weir_tests::scenarios!(
    PROGRAM,
    produce_consume,
    group_rebalance,
    commit_resume,
    seek,
    compression,
    headers_nulls,
    large,
    verifiable,
    tls,
    mutual_tls
);
