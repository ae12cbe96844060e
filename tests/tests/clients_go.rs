//! The Go client: franz-go.

use weir_tests::clients::Program;

const PROGRAM: Program = Program::Binary("franz-go");

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
