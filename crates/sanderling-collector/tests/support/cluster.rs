//! A throw-away PostgreSQL server.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use postgres::{Client, NoTls};

/// Makes it a failure that there is no server to test with.
const REQUIRED: &str = "SANDERLING_REQUIRE_POSTGRES";
/// What stops the server and removes its files when the test program ends, however it ends: the pipe is closed then.
const GUARD: &str =
    "trap '' INT TERM HUP; read -r _; \"$1/pg_ctl\" -D \"$2/data\" stop -m immediate; rm -rf \"$2\"";

/// A cluster in a temporary folder, which listens at a socket there.
pub struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    /// The user that the server runs as, where this is root, which a server refuses to be.
    user: Option<(u32, u32)>,
    guard: Mutex<Child>,
    num_databases: AtomicU64,
}

/// The cluster of this test program; none where no server is installed, which is said.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    // What is killed here is not the machine, so no write has to reach the disk.
    SHARED.get_or_init(|| Cluster::start("-c fsync=off")).as_ref()
}

impl Cluster {
    /// A new cluster, whose server is started with `options`.
    pub fn start(options: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, and there is no PostgreSQL");
            // Not by a macro, whose output the test runner keeps to itself.
            let _ = writeln!(std::io::stderr(), "SKIPPED: tests with PostgreSQL; there is no server here");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("sanderling-pg").tempdir().unwrap().keep();
        let user = (folder.metadata().unwrap().uid() == 0).then(ordinary_user);
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        let guard = as_user(Path::new("sh"), &folder, user)
            .args(["-c", GUARD, "guard"])
            .args([&programs, &folder])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let cluster =
            Self { programs, folder, user, guard: Mutex::new(guard), num_databases: AtomicU64::new(0) };
        cluster.run("initdb", &["-A", "trust", "-U", "sanderling", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let socket = cluster.folder.display();
        let configuration = cluster.folder.join("data/postgresql.auto.conf");
        let settings =
            format!("listen_addresses = ''\nunix_socket_directories = '{socket}'\nmax_connections = 300\n");
        std::fs::write(configuration, settings).unwrap();
        cluster.go_on(options);
        Some(cluster)
    }

    /// Starts the server that was stopped.
    pub fn go_on(&self, options: &str) {
        let log = self.folder.join("log");
        self.run("pg_ctl", &["-w", "-l", log.to_str().unwrap(), "-o", options, "start"]);
    }

    /// Stops the server without letting it finish anything, like a crash.
    pub fn crash(&self) {
        self.run("pg_ctl", &["-w", "-m", "immediate", "stop"]);
    }

    /// Copies a file into the cluster, readable by the server alone.
    pub fn take(&self, file: &Path) {
        let copy = self.folder.join("data").join(file.file_name().unwrap());
        std::fs::copy(file, &copy).unwrap();
        std::fs::set_permissions(&copy, Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = self.user {
            chown(&copy, Some(uid), Some(gid)).unwrap();
        }
    }

    /// The URL of a new, empty database.
    pub fn new_database(&self) -> String {
        let name = format!("test_{}", self.num_databases.fetch_add(1, Ordering::SeqCst));
        self.client("postgres").batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        self.url(&name)
    }

    pub fn url(&self, database: &str) -> String {
        let host = self.folder.to_str().unwrap().replace('/', "%2F");
        format!("postgres://sanderling@{host}/{database}")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    pub fn client(&self, database: &str) -> Client {
        Client::connect(&self.url(database), NoTls).unwrap()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = as_user(&self.programs.join(program), &self.folder, self.user);
        let output = std::fs::File::create(self.folder.join(format!("{program}.out"))).unwrap();
        let status = command
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .status();
        let said = std::fs::read_to_string(self.folder.join(format!("{program}.out"))).unwrap();
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        assert!(status.unwrap().success(), "{program} {arguments:?}: {said}\n{log}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let guard = self.guard.get_mut().unwrap();
        drop(guard.stdin.take());
        guard.wait().unwrap();
    }
}

fn as_user(program: &Path, folder: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// Where the server's programs are: beside the first initdb of the path, or where Debian puts them.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = versions.map_while(Result::ok).map(|version| version.path().join("bin"));
    let found = std::env::split_paths(&path).chain(debian).find(|folder| folder.join("initdb").is_file())?;
    Some(found.join("initdb").canonicalize().unwrap().parent().unwrap().to_owned())
}

/// User and group of someone who is not root.
fn ordinary_user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map_while(|field| field.parse().ok());
        Some((fields.next()?, fields.next()?))
    };
    find("postgres").or_else(|| find("nobody")).unwrap_or((65_534, 65_534))
}
