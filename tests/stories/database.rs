/*! PostgreSQL with PgBouncer before it, as Debian packages them. */

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tracer::sandbox::SERVER_V4;

use super::daemon::{Account, Daemon};
use crate::world::{Skip, World, find, missing};

/// PgBouncer's own port.
pub(crate) const PGBOUNCER: u16 = 6432;

/// The database behind PgBouncer, its user likewise: anybody may be it.
pub(crate) const NAME: &str = "app";

/// How a PostgreSQL that keeps nothing is told to start. It ends at once by SIGQUIT.
const POSTGRES: [&str; 6] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "autovacuum=off",
    "max_connections=30",
    "shared_buffers=16MB",
];

/// A database on the server's side.
pub(crate) struct Database {
    // Dropped in this order.
    _poolers: Vec<Daemon>,
    _postgres: Daemon,
    _home: TempDir,
}

impl Database {
    /// Makes a database and starts a PgBouncer before it for each of `ports`.
    pub(crate) fn behind(world: &World, ports: &[u16]) -> Result<Self, Skip> {
        let pgbouncer = find("pgbouncer", "pgbouncer")?;
        let programs = postgres_programs()?;
        // PgBouncer's package uses this account too.
        let account = Account::of("postgres", "postgresql")?;
        let home = account.home();
        let data = home.path().join("data");
        initdb(&programs, &account, home.path(), &data);
        let mut command = Command::new(programs.join("postgres"));
        command.arg("-D").arg(&data);
        for setting in POSTGRES {
            command.args(["-c", setting]);
        }
        let ready = ("ready to accept connections", Signal::SIGQUIT);
        let postgres = Daemon::start(&world.pair, &account, home.path(), command, ready);
        let poolers = ports.iter().map(|&port| {
            let file = home.path().join(format!("pgbouncer-{port}.ini"));
            std::fs::write(&file, settings(port)).unwrap();
            let mut command = Command::new(&pgbouncer);
            command.arg(&file);
            let ready = ("process up", Signal::SIGTERM);
            Daemon::start(&world.pair, &account, home.path(), command, ready)
        });
        Ok(Self {
            _poolers: poolers.collect(),
            _postgres: postgres,
            _home: home,
        })
    }
}

/// PgBouncer as people run it: many short clients over five connections to PostgreSQL.
fn settings(port: u16) -> String {
    format!(
        "[databases]\n\
         {NAME} = host=127.0.0.1 port=5432 dbname=postgres user={NAME}\n\
         [pgbouncer]\n\
         listen_addr = {SERVER_V4}\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         pool_mode = transaction\n\
         max_client_conn = 200\n\
         default_pool_size = 5\n"
    )
}

/// The folder of the newest PostgreSQL.
fn postgres_programs() -> Result<PathBuf, Skip> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions
        .map(|version| version.unwrap().path())
        .filter(|path| path.join("bin/postgres").is_file())
        .max_by_key(number)
        .map(|path| path.join("bin"))
        .ok_or_else(|| missing("/usr/lib/postgresql/*/bin/postgres", "postgresql"))
}

fn initdb(programs: &Path, account: &Account, home: &Path, data: &Path) {
    let mut command = Command::new(programs.join("initdb"));
    command
        .arg("-D")
        .arg(data)
        .args(["-U", NAME, "-A", "trust"]);
    command.args(["--no-sync", "--no-locale", "--encoding=UTF8"]);
    command.current_dir(home).env("LC_ALL", "C");
    account.lend(&mut command, Signal::SIGKILL);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "initdb: {said}");
}
