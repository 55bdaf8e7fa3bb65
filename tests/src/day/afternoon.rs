//! The afternoon: redis and PostgreSQL, with their data in volumes.

use super::Engine;
use crate::fixtures;

/// Databases.
pub fn afternoon(engine: &impl Engine) {
    let docker = |arguments: &[&str]| engine.docker(arguments);
    let host = engine.host();
    engine.load(&fixtures::redis());
    engine.load(&fixtures::postgres());

    docker(&["network", "create", "data"]).ok();
    docker(&[
        "run",
        "-d",
        "--name",
        "cache",
        "--network",
        "data",
        "-p",
        "6379:6379",
        "-v",
        "cache-data:/data",
        "--restart",
        "always",
        "redis",
    ])
    .ok();
    host.eventually("redis-cli ping | grep PONG");
    host.sh("redis-cli set greeting hello").ok().says("OK");
    docker(&[
        "run",
        "--rm",
        "--network",
        "data",
        "redis",
        "redis-cli",
        "-h",
        "cache",
        "get",
        "greeting",
    ])
    .ok()
    .is("hello");
    docker(&["stop", "-t", "120", "cache"]).ok();
    docker(&["rm", "cache"]).ok();
    docker(&[
        "run",
        "-d",
        "--name",
        "cache",
        "-p",
        "6379:6379",
        "-v",
        "cache-data:/data",
        "redis",
    ])
    .ok();
    host.eventually("redis-cli get greeting | grep hello");

    docker(&[
        "run",
        "-d",
        "--name",
        "db",
        "-p",
        "127.0.0.1:5432:5432",
        "-v",
        "pg:/var/lib/postgresql",
        "--shm-size",
        "128m",
        "postgres:15",
    ])
    .ok();
    host.eventually("pg_isready -q -h 127.0.0.1 -U postgres");
    host.sh("psql -h 127.0.0.1 -U postgres -c 'create table t (n int)' -c 'insert into t select generate_series(1, 1000)'").ok();
    host.sh("psql -h 127.0.0.1 -U postgres -Atc 'select sum(n) from t'")
        .ok()
        .is("500500");
    docker(&["stop", "-t", "120", "db"]).ok();
    docker(&["inspect", "db", "--format", "{{.State.ExitCode}}"])
        .ok()
        .is("0");
    docker(&["rm", "db"]).ok();
    docker(&[
        "run",
        "-d",
        "--name",
        "db",
        "-p",
        "127.0.0.1:5432:5432",
        "-v",
        "pg:/var/lib/postgresql",
        "postgres:15",
    ])
    .ok();
    host.eventually("pg_isready -q -h 127.0.0.1 -U postgres");
    host.sh("psql -h 127.0.0.1 -U postgres -Atc 'select count(*) from t'")
        .ok()
        .is("1000");
    docker(&["rm", "-f", "db", "cache"]).ok();
    docker(&["volume", "prune", "-f", "-a"]).ok().says("pg");
    docker(&["network", "rm", "data"]).ok();
}
