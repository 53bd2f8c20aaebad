//! CLUSTER and its kin: what a server answers that is no cluster node.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;

pub const COMMANDS: &[Command] = &[
    Command::new("asking", 1, refuse).flags(FAST).acl(acl::CONNECTION).since("3.0.0"),
    Command::new("cluster", -2, container).since("3.0.0").subcommands(&[
        Command::new("cluster|addslots", -3, refuse).flags(ADMIN | NO_ASYNC_LOADING | STALE).since("3.0.0"),
        Command::new("cluster|addslotsrange", -4, refuse).flags(ADMIN | NO_ASYNC_LOADING | STALE).since("7.0.0"),
        Command::new("cluster|bumpepoch", 2, refuse)
            .flags(ADMIN | NO_ASYNC_LOADING | STALE)
            .since("3.0.0")
            .tips(&["nondeterministic_output"]),
        Command::new("cluster|count-failure-reports", 3, refuse)
            .flags(ADMIN | STALE)
            .since("3.0.0")
            .tips(&["nondeterministic_output"]),
        Command::new("cluster|countkeysinslot", 3, refuse).flags(STALE).since("3.0.0"),
        Command::new("cluster|delslots", -3, refuse).flags(ADMIN | NO_ASYNC_LOADING | STALE).since("3.0.0"),
        Command::new("cluster|delslotsrange", -4, refuse).flags(ADMIN | NO_ASYNC_LOADING | STALE).since("7.0.0"),
        Command::new("cluster|failover", -2, refuse).flags(ADMIN | NO_ASYNC_LOADING | STALE).since("3.0.0"),
        Command::new("cluster|flushslots", 2, refuse).flags(ADMIN | NO_ASYNC_LOADING | STALE).since("3.0.0"),
        Command::new("cluster|forget", 3, refuse).flags(ADMIN | NO_ASYNC_LOADING | STALE).since("3.0.0"),
        Command::new("cluster|getkeysinslot", 4, refuse).flags(STALE).since("3.0.0").tips(&["nondeterministic_output"]),
        Command::new("cluster|help", 2, refuse).flags(LOADING | STALE).since("5.0.0"),
        Command::new("cluster|info", 2, refuse).flags(STALE).since("3.0.0").tips(&["nondeterministic_output"]),
        Command::new("cluster|keyslot", 3, refuse).flags(STALE).since("3.0.0"),
        Command::new("cluster|links", 2, refuse).flags(STALE).since("7.0.0").tips(&["nondeterministic_output"]),
        Command::new("cluster|meet", -4, refuse).flags(ADMIN | NO_ASYNC_LOADING | STALE).since("3.0.0"),
        Command::new("cluster|myid", 2, refuse).flags(STALE).since("3.0.0"),
        Command::new("cluster|myshardid", 2, refuse).flags(STALE).since("7.2.0").tips(&["nondeterministic_output"]),
        Command::new("cluster|nodes", 2, refuse).flags(STALE).since("3.0.0").tips(&["nondeterministic_output"]),
        Command::new("cluster|replicas", 3, refuse)
            .flags(ADMIN | STALE)
            .since("5.0.0")
            .tips(&["nondeterministic_output"]),
        Command::new("cluster|replicate", 3, refuse).flags(ADMIN | NO_ASYNC_LOADING | STALE).since("3.0.0"),
        Command::new("cluster|reset", -2, refuse).flags(ADMIN | NOSCRIPT | STALE).since("3.0.0"),
        Command::new("cluster|saveconfig", 2, refuse).flags(ADMIN | NO_ASYNC_LOADING | STALE).since("3.0.0"),
        Command::new("cluster|set-config-epoch", 3, refuse).flags(ADMIN | NO_ASYNC_LOADING | STALE).since("3.0.0"),
        Command::new("cluster|setslot", -4, refuse).flags(ADMIN | NO_ASYNC_LOADING | STALE).since("3.0.0"),
        Command::new("cluster|shards", 2, refuse)
            .flags(LOADING | STALE)
            .since("7.0.0")
            .tips(&["nondeterministic_output"]),
        Command::new("cluster|slaves", 3, refuse)
            .flags(ADMIN | STALE)
            .since("3.0.0")
            .tips(&["nondeterministic_output"]),
        Command::new("cluster|slots", 2, refuse)
            .flags(LOADING | STALE)
            .since("3.0.0")
            .tips(&["nondeterministic_output"]),
    ]),
    Command::new("readonly", 1, refuse).flags(FAST | LOADING | STALE).acl(acl::CONNECTION).since("3.0.0"),
    Command::new("readwrite", 1, refuse).flags(FAST | LOADING | STALE).acl(acl::CONNECTION).since("3.0.0"),
];

/// `CLUSTER` without a subcommand. The engine answers unknown ones.
fn container(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(args.arity_error())
}

/// Any command that only a cluster node can follow. Source: Redis 7.2 with `cluster-enabled no`.
fn refuse(_ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    Err(CmdError::Text("ERR This instance has cluster support disabled"))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    #[test]
    fn this_is_no_cluster_node() {
        let mut c = Checker::new();
        c.since("7.2");
        c.check("CLUSTER", "-ERR wrong number of arguments for 'cluster' command");
        c.check("CLUSTER nope", "-ERR unknown subcommand 'nope'. Try CLUSTER HELP.");
        for command in [
            "CLUSTER ADDSLOTS 1",
            "CLUSTER ADDSLOTSRANGE 1 1",
            "CLUSTER BUMPEPOCH",
            "CLUSTER COUNT-FAILURE-REPORTS 1",
            "CLUSTER COUNTKEYSINSLOT 1",
            "CLUSTER DELSLOTS 1",
            "CLUSTER DELSLOTSRANGE 1 1",
            "CLUSTER FAILOVER",
            "CLUSTER FLUSHSLOTS",
            "CLUSTER FORGET 1",
            "CLUSTER GETKEYSINSLOT 1 1",
            "CLUSTER HELP",
            "CLUSTER INFO",
            "CLUSTER KEYSLOT 1",
            "CLUSTER LINKS",
            "CLUSTER MEET 1 1",
            "CLUSTER MYID",
            "CLUSTER MYSHARDID",
            "CLUSTER NODES",
            "CLUSTER REPLICAS 1",
            "CLUSTER REPLICATE 1",
            "CLUSTER RESET",
            "CLUSTER SAVECONFIG",
            "CLUSTER SET-CONFIG-EPOCH 1",
            "CLUSTER SETSLOT 1 1",
            "CLUSTER SHARDS",
            "CLUSTER SLAVES 1",
            "CLUSTER SLOTS",
            "ASKING",
            "READONLY",
            "READWRITE",
        ] {
            c.check(command, "-ERR This instance has cluster support disabled");
        }
    }
}
