//! A database of either kind, for tests that hold for both, and a look at it that does not go through the code under test.

use std::collections::BTreeMap;

use sanderling_collector::StoreLocation;

use super::cluster;

/// Makes each function, which takes the kind of database, a test of every kind.
macro_rules! for_every_database {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[test] fn $name() { super::$name($crate::support::Kind::Sqlite); })+
        }
        #[cfg(unix)]
        mod on_postgres {
            $(#[test] fn $name() {
                if $crate::support::cluster::shared().is_some() {
                    super::$name($crate::support::Kind::Postgres);
                }
            })+
        }
    };
}
pub(crate) use for_every_database;

/// What a database is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// A new, empty database.
pub struct Database {
    location: String,
    kind: Kind,
    _folder: tempfile::TempDir,
}

/// Holds what a writer needs until it is dropped.
pub struct Blocker(Option<Raw>);

enum Raw {
    Sqlite(rusqlite::Connection),
    Postgres(postgres::Client),
}

impl Database {
    pub fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = match kind {
            Kind::Sqlite => folder.path().join("reports.db").to_str().unwrap().to_owned(),
            Kind::Postgres => off_runtime(|| cluster::shared().unwrap().new_database()),
        };
        Self { location, kind, _folder: folder }
    }

    /// The file of somebody else.
    pub fn of_file(path: &std::path::Path) -> Self {
        let location = path.to_str().unwrap().to_owned();
        Self { location, kind: Kind::Sqlite, _folder: tempfile::tempdir().unwrap() }
    }

    /// What a user would write.
    pub fn text(&self) -> &str {
        &self.location
    }

    pub fn location(&self) -> StoreLocation {
        self.location.parse().unwrap()
    }

    fn connect(&self) -> Raw {
        match self.kind {
            Kind::Sqlite => Raw::Sqlite(rusqlite::Connection::open(&self.location).unwrap()),
            Kind::Postgres => {
                let mut client = postgres::Client::connect(&self.location, postgres::NoTls).unwrap();
                client.batch_execute("SET search_path = sanderling").unwrap();
                Raw::Postgres(client)
            }
        }
    }

    /// Keeps writers waiting until the result is dropped.
    pub fn block(&self) -> Blocker {
        off_runtime(|| {
            let mut raw = self.connect();
            match &mut raw {
                Raw::Sqlite(connection) => {
                    super::wait_for("the write lock", || connection.execute_batch("BEGIN IMMEDIATE").is_ok());
                }
                Raw::Postgres(client) => {
                    client.batch_execute("BEGIN; LOCK TABLE reports IN ACCESS EXCLUSIVE MODE").unwrap();
                }
            }
            Blocker(Some(raw))
        })
    }

    /// The one number that a question answers; tables have the same names in both.
    pub fn number(&self, question: &str) -> i64 {
        off_runtime(|| match self.connect() {
            Raw::Sqlite(connection) => connection.query_row(question, (), |row| row.get(0)).unwrap(),
            Raw::Postgres(mut client) => client.query_one(question, &[]).unwrap().get(0),
        })
    }

    /// How often each report id is there, by its number.
    pub fn stored(&self) -> BTreeMap<u64, u64> {
        let question = "SELECT report_id, count(*) FROM reports GROUP BY report_id";
        let rows: Vec<(Vec<u8>, i64)> = off_runtime(|| match self.connect() {
            Raw::Sqlite(connection) => {
                let mut statement = connection.prepare(question).unwrap();
                let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
                rows.map(Result::unwrap).collect()
            }
            Raw::Postgres(mut client) => {
                let rows = client.query(question, &[]).unwrap();
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            }
        });
        let number = |id: Vec<u8>| u128::from_be_bytes(id.try_into().unwrap()) as u64;
        rows.into_iter().map(|(id, count)| (number(id), count as u64)).collect()
    }

    /// Everything that is kept of the one report there, and how many columns that is.
    pub fn only_report(&self) -> (String, i64) {
        let (id, columns) = match self.kind {
            Kind::Sqlite => ("hex(report_id)", "FROM pragma_table_info('reports')"),
            Kind::Postgres => (
                "encode(report_id, 'hex')",
                "FROM information_schema.columns WHERE table_schema = 'sanderling' AND table_name = 'reports'",
            ),
        };
        let question = format!(
            "SELECT {id} || '|' || bundle_id || '|' || window_start || '|' || received_at FROM reports"
        );
        let row = off_runtime(|| match self.connect() {
            Raw::Sqlite(connection) => connection.query_row(&question, (), |row| row.get(0)).unwrap(),
            Raw::Postgres(mut client) => client.query_one(&question, &[]).unwrap().get(0),
        });
        (row, self.number(&format!("SELECT count(*) {columns}")))
    }

    /// Runs statements on the server.
    pub fn execute(&self, statements: &str) {
        off_runtime(|| match self.connect() {
            Raw::Sqlite(connection) => connection.execute_batch(statements).unwrap(),
            Raw::Postgres(mut client) => client.batch_execute(statements).unwrap(),
        });
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        let raw = self.0.take();
        off_runtime(|| match raw {
            Some(Raw::Sqlite(connection)) => connection.execute_batch("ROLLBACK").unwrap(),
            Some(Raw::Postgres(mut client)) => client.batch_execute("ROLLBACK").unwrap(),
            None => {}
        });
    }
}

/// The client of PostgreSQL runs a runtime, which must not start inside that of a test.
pub fn off_runtime<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}
