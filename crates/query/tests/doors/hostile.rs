//! Bytes that no client should send: the door neither panics nor stops answering others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{TestDoor, open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The server's threads; a failed assertion of another test is on a thread of its own name.
        if std::thread::current().name() == Some("query") {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        usual(panic);
    }));
}

/// xorshift: the same bytes at every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

fn startup() -> Vec<u8> {
    let body = b"user\0anyone\0database\0any\0\0";
    let mut bytes = ((body.len() + 8) as u32).to_be_bytes().to_vec();
    bytes.extend(196_608u32.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(((body.len() + 4) as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Sends all, and returns what comes back until the server closes or says nothing for a while.
async fn send(door: &TestDoor, bytes: &[u8], patience: Duration) -> Vec<u8> {
    let mut socket = TcpStream::connect(door.address).await.unwrap();
    let _ = socket.write_all(bytes).await;
    let mut output = vec![0; 4096];
    let mut all = Vec::new();
    while let Ok(Ok(count)) = tokio::time::timeout(patience, socket.read(&mut output)).await {
        if count == 0 {
            break;
        }
        all.extend_from_slice(&output[..count]);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bytes_are_survived() {
    count_panics();
    let door = open().await;
    let brief = Duration::from_millis(20);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..150 {
        let noise: Vec<u8> = (0..random.below(400)).map(|_| random.next() as u8).collect();
        let mut bytes = if round % 3 == 0 { Vec::new() } else { startup() };
        if round % 3 == 2 {
            let kinds = b"QPBEDSCHXdcfp";
            for _ in 0..4 {
                let from = random.below(noise.len() + 1);
                bytes.extend(message(kinds[random.below(kinds.len())], &noise[from..]));
            }
        } else {
            bytes.extend(&noise);
        }
        send(&door, &bytes, brief).await;
    }

    let parse = |sql: &str| message(b'P', format!("\0{sql}\0\0\0").as_bytes());
    let sync = message(b'S', b"");
    // Bind: portal, statement, parameter formats, parameters, result formats.
    let bind = |numbers: &[u16]| {
        let mut body = b"\0\0".to_vec();
        numbers.iter().for_each(|number| body.extend(number.to_be_bytes()));
        message(b'B', &body)
    };
    let execute = |max_rows: i32| message(b'E', &[b"\0".as_slice(), &max_rows.to_be_bytes()].concat());
    let describe = message(b'D', b"P\0");
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        (
            "two result formats for three columns",
            vec![parse("select 1, 2, 3"), bind(&[0, 0, 2, 1, 1]), describe.clone(), execute(0), sync.clone()],
        ),
        (
            "more result formats than columns",
            vec![parse("select 1"), bind(&[0, 0, 3, 1, 1, 1]), describe.clone(), execute(0), sync.clone()],
        ),
        (
            "formats for parameters that are not there",
            vec![parse("select 1"), bind(&[2, 1, 1, 0, 0]), execute(0), sync.clone()],
        ),
        ("a parameter too few", vec![parse("select $1::int"), bind(&[0, 0, 0]), execute(0), sync.clone()]),
        ("a negative row limit", vec![parse("select 1"), bind(&[0, 0, 0]), execute(i32::MIN), sync.clone()]),
        ("execute twice", vec![parse("select 1"), bind(&[0, 0, 0]), execute(0), execute(0), sync.clone()]),
        ("an unknown statement", vec![bind(&[0, 0, 0]), execute(0), sync.clone()]),
        (
            "a cursor's name as a portal",
            vec![message(b'Q', b"begin; declare c cursor for select 1\0"), message(b'E', b"c\0\0\0\0\0"), sync.clone()],
        ),
        ("deep nesting", vec![message(b'Q', format!("select {}1{}\0", "(".repeat(5000), ")".repeat(5000)).as_bytes())]),
        ("a deep expression", vec![message(b'Q', format!("select 1{}\0", "+1".repeat(3000)).as_bytes())]),
        ("a deep expression just allowed", vec![message(b'Q', format!("select 1{}\0", "+1".repeat(400)).as_bytes())]),
        (
            "a chain of OR just allowed",
            vec![message(
                b'Q',
                format!("select count(*) from events where {}false\0", "id='x' or ".repeat(200)).as_bytes(),
            )],
        ),
        ("a chain of UNION", vec![message(b'Q', format!("select 1{}\0", " union select 1".repeat(3000)).as_bytes())]),
        ("many lists", vec![message(b'Q', format!("select 1 where 1 in ({}1)\0", "1,".repeat(5000)).as_bytes())]),
        ("not UTF-8", vec![message(b'Q', b"select '\xff\xfe'\0")]),
        ("no end of text", vec![message(b'Q', b"select 1")]),
        (
            "copy data outside of a copy",
            vec![message(b'd', b"x"), message(b'c', b""), message(b'f', b"\0"), sync.clone()],
        ),
    ];
    for (name, messages) in cases {
        let mut bytes = startup();
        messages.iter().for_each(|message| bytes.extend(message));
        bytes.extend(message(b'Q', b"select 'alive'\0"));
        send(&door, &bytes, Duration::from_millis(500)).await;
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{name}");
    }

    let mut huge = startup();
    huge.push(b'Q');
    huge.extend(0x3000_0000u32.to_be_bytes());
    let answer = send(&door, &huge, Duration::from_secs(5)).await;
    assert!(String::from_utf8_lossy(&answer).contains("the limit is 4194304 bytes"));

    let client = door.connect().await;
    assert_eq!(client.query_one("select 1::bigint", &[]).await.unwrap().get::<_, i64>(0), 1);
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}
