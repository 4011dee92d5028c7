//! Real traffic, replayed: what SQL answers must equal what a plain reading of the log file says.
//!
//! The expectation is computed here, with nothing of ours: gunzip, a few lines of parsing, the country database read
//! directly, and counting in maps.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use maxminddb::{PathElement, Reader};
use playhouse_testkit::Playhouse;

type Counts = BTreeMap<Option<String>, i64>;

const LINES: usize = 10_000;
/// The one line that ends inside its user agent, without a closing quote.
const CUT_LINE: usize = 8_899;

#[test]
fn answers_equal_a_plain_count_and_a_second_replay_changes_nothing() {
    let expected = Expected::from_file();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(&data).start();

    let first = replay(&playhouse, directory.path());
    assert!(said(&first).contains("10000 accepted, 0 rejected"), "{}", said(&first));
    playhouse.in_sight();
    expected.check(&playhouse);
    let before = everything(&playhouse, &data);

    let again = replay(&playhouse, directory.path());
    assert!(said(&again).contains("10000 accepted, 0 rejected"), "{}", said(&again));
    playhouse.in_sight();
    assert_eq!(playhouse.status()["engine"]["duplicates"], LINES, "each line of the second replay is a duplicate");
    expected.check(&playhouse);
    let after = everything(&playhouse, &data);
    for (what, rows) in &before {
        assert!(
            after[what] == *rows,
            "{what} changed with the second replay: {} rows, then {}",
            rows.len(),
            after[what].len()
        );
    }
    playhouse.stop();

    // Nor does a restart, in which lake and tables have caught up from the epoch log.
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(&data).start();
    playhouse.in_sight();
    let restarted = everything(&playhouse, &data);
    for (what, rows) in &before {
        assert!(
            restarted[what] == *rows,
            "{what} changed with a restart: {} rows, then {}",
            rows.len(),
            restarted[what].len()
        );
    }
}

/// What the file says, line by line.
struct Expected {
    by_country: Counts,
    by_status: Counts,
    by_day: Counts,
    users_by_day: Counts,
    cut_agent: String,
}

impl Expected {
    fn from_file() -> Expected {
        let mut text = String::new();
        let file = std::fs::File::open(project("data/access.log.gz")).unwrap();
        flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
        let countries = Reader::open_readfile(project("data/country-ipv4.mmdb")).unwrap();

        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), LINES);
        let mut users: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        let (mut by_country, mut by_status, mut by_day) = (Counts::new(), Counts::new(), Counts::new());
        for line in &lines {
            let address = line.split(' ').next().unwrap();
            *by_country.entry(country(&countries, address)).or_default() += 1;
            *by_status.entry(Some(status(line).to_owned())).or_default() += 1;
            let day = day(line);
            *by_day.entry(Some(day.clone())).or_default() += 1;
            let user = line.split(' ').nth(2).unwrap();
            users.entry(day).or_default().insert(if user == "-" { address } else { user });
        }
        let users_by_day = users.into_iter().map(|(day, users)| (Some(day), users.len() as i64)).collect();
        let cut = lines[CUT_LINE - 1];
        assert!(!cut.ends_with('"'));
        let cut_agent = cut.rsplit_once('"').unwrap().1.to_owned();
        Expected { by_country, by_status, by_day, users_by_day, cut_agent }
    }

    fn check(&self, playhouse: &Playhouse) {
        assert_eq!(playhouse.count("select count(*) from events"), LINES as i64);
        assert_eq!(playhouse.count("select count(distinct id) from events"), LINES as i64);
        assert_eq!(playhouse.count("select count(*) from events_raw"), LINES as i64);
        assert_eq!(playhouse.count("select count(*) from bad_events"), 0);
        assert_eq!(playhouse.count("select count(*) from late_events"), 0);
        let ask = |sql: &str| counts(playhouse.query(sql));
        assert_eq!(ask("select country, count(*) from events group by 1"), self.by_country);
        assert_eq!(ask("select metadata->>'status', count(*) from events group by 1"), self.by_status);
        assert_eq!(ask("select date, count(*) from events group by 1"), self.by_day);
        assert_eq!(ask("select event_time::date, count(*) from events group by 1"), self.by_day);
        assert_eq!(ask("select day, events from events_by_type where type = 'page_view'"), self.by_day);
        assert_eq!(ask("select day, users from unique_users_per_day"), self.users_by_day);
        let unique = "select date, count(distinct user_id) from events group by 1";
        assert_eq!(ask(unique), self.users_by_day, "the view and the lake agree");
        let cut = format!("select count(*) from events where user_agent = '{}'", self.cut_agent);
        assert!(playhouse.count(&cut) > 0, "the line that is cut inside its user agent is an event, too");
    }
}

fn country(countries: &Reader<Vec<u8>>, address: &str) -> Option<String> {
    let address: IpAddr = address.parse().unwrap();
    countries.lookup(address).unwrap().decode_path(&[PathElement::Key("country_code")]).unwrap()
}

/// `… "GET / HTTP/1.1" 200 …`: what follows the first quote that is followed by a number.
fn status(line: &str) -> &str {
    let after_request = line.match_indices("\" ").map(|(at, quote)| &line[at + quote.len()..]);
    let mut numbers = after_request.filter_map(|rest| rest.split(' ').next());
    numbers.find(|word| word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit())).unwrap()
}

/// `[17/May/2015:10:05:03 +0000]` as 2015-05-17: the file has one month and one time zone.
fn day(line: &str) -> String {
    let time = line.split(['[', ']']).nth(1).unwrap();
    let (day, rest) = time.split_once("/May/2015:").unwrap();
    assert!(rest.ends_with(" +0000"));
    format!("2015-05-{day}")
}

fn counts(rows: Vec<Vec<Option<String>>>) -> Counts {
    let total = rows.len();
    let counts: Counts =
        rows.into_iter().map(|row| (row[0].clone(), row[1].as_deref().unwrap().parse().unwrap())).collect();
    assert_eq!(counts.len(), total, "a group came twice");
    counts
}

/// Each table, view, lake table and the cache, as sorted rows.
fn everything(playhouse: &Playhouse, data: &Path) -> BTreeMap<&'static str, Vec<String>> {
    let mut found = BTreeMap::new();
    for table in [
        "events",
        "events_raw",
        "late_events",
        "bad_events",
        "unique_users_per_day",
        "concurrent_viewers",
        "watch_time",
        "events_by_type",
    ] {
        let rows = playhouse.query(&format!("select * from {table}"));
        found.insert(table, sorted(rows.into_iter().map(|row| format!("{row:?}"))));
    }
    found.insert("the embedded table", sorted(embedded_rows(&data.join("tables.db"))));
    found
}

fn embedded_rows(database: &Path) -> Vec<String> {
    let tables = rusqlite::Connection::open_with_flags(database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = tables.prepare("SELECT * FROM events").unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..columns).map(|column| row.get::<_, rusqlite::types::Value>(column)).collect::<Result<Vec<_>, _>>()
    });
    let rows: Vec<String> = rows.unwrap().map(|row| format!("{:?}", row.unwrap())).collect();
    assert_eq!(rows.len(), LINES);
    rows
}

fn sorted(rows: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut rows: Vec<String> = rows.into_iter().collect();
    rows.sort_unstable();
    rows
}

fn replay(playhouse: &Playhouse, state: &Path) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_playhouse"))
        .arg("replay")
        .arg(project("data/access.log.gz"))
        .args(["--url", &format!("http://{}", playhouse.ingest())])
        .env("XDG_STATE_HOME", state)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
