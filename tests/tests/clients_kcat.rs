//! kcat, in the version that Debian has, with its librdkafka.

use weir_tests::clients::Program;

const PROGRAM: Program = Program::Python("kcat/kcat.py");

weir_tests::scenarios!(
    PROGRAM,
    produce_consume,
    group_rebalance,
    commit_resume,
    seek,
    compression,
    headers_nulls,
    large,
    tls,
    mutual_tls
);
