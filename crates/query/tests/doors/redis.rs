//! The Redis door over a fixed cache: bytes on the socket, and Redis' own tools.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use playhouse_query::{CacheReader, RedisConfig, RedisServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Fixed(HashMap<Vec<u8>, (Vec<u8>, Option<u64>)>);

impl CacheReader for Fixed {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key).map(|(value, _)| value.clone())
    }
    fn ttl_ms(&self, key: &[u8]) -> Option<Option<u64>> {
        self.0.get(key).map(|(_, ttl_ms)| *ttl_ms)
    }
    fn len(&self) -> usize {
        self.0.len()
    }
}

async fn open(config: RedisConfig) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let cache = Fixed(HashMap::from([
        (b"event:1".to_vec(), (b"{\"id\":\"1\"}".to_vec(), Some(1500))),
        (b"event:2".to_vec(), (vec![b'x'; 100_000], None)),
        (b"key:__rand_int__".to_vec(), (b"abc".to_vec(), None)),
    ]));
    let server = RedisServer::bind("127.0.0.1:0".parse().unwrap(), Arc::new(cache), config).await.unwrap();
    let (address, stop) = (server.local_addr(), CancellationToken::new());
    (address, stop.clone(), tokio::spawn(server.serve(stop)))
}

/// Sends `input` and returns all that comes until the server closes (`input` ends with QUIT, or in an error).
async fn exchange(address: SocketAddr, input: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(input).await.unwrap();
    let mut output = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut output)).await.unwrap().unwrap();
    String::from_utf8(output).unwrap()
}

#[tokio::test]
async fn commands_are_answered_in_order() {
    let (address, ..) = open(RedisConfig::default()).await;
    let input = "PING\r\n*2\r\n$4\r\nPING\r\n$2\r\nhi\r\n*2\r\n$3\r\nget\r\n$7\r\nevent:1\r\n\
                 GET nothing\r\nMGET event:1 nothing\r\nEXISTS event:1 event:1 nothing\r\nTTL event:1\r\nPTTL event:1\r\n\
                 TTL event:2\r\nTTL nothing\r\nDBSIZE\r\nSELECT 0\r\nSELECT 1\r\nCOMMAND\r\nCOMMAND DOCS\r\nHELLO 3\r\n\
                 CLIENT SETINFO lib-name x\r\nCLIENT SETNAME x\r\nECHO hey\r\nGET\r\nSET a b\r\n\r\nQUIT\r\nPING\r\n";
    let expected = "+PONG\r\n$2\r\nhi\r\n$10\r\n{\"id\":\"1\"}\r\n\
                    $-1\r\n*2\r\n$10\r\n{\"id\":\"1\"}\r\n$-1\r\n:2\r\n:2\r\n:1500\r\n\
                    :-1\r\n:-2\r\n:3\r\n+OK\r\n-ERR DB index is out of range: there is only database 0\r\n*0\r\n*0\r\n\
                    -NOPROTO this server speaks RESP2 only\r\n\
                    +OK\r\n+OK\r\n$3\r\nhey\r\n-ERR wrong number of arguments for 'get' command\r\n\
                    -ERR unknown command 'SET': the cache is read only\r\n+OK\r\n";
    assert_eq!(exchange(address, input.as_bytes()).await, expected);
}

#[tokio::test]
async fn a_long_pipeline_is_answered_in_full() {
    let (address, ..) = open(RedisConfig::default()).await;
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let writing = tokio::spawn(async move {
        for _ in 0..200 {
            writer.write_all(b"GET event:2\r\n").await.unwrap();
        }
        writer.write_all(b"QUIT\r\n").await.unwrap();
        writer
    });
    let mut output = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), reader.read_to_end(&mut output)).await.unwrap().unwrap();
    assert_eq!(output.len(), 200 * (100_000 + "$100000\r\n\r\n".len()) + "+OK\r\n".len());
    writing.await.unwrap();
}

#[tokio::test]
async fn what_is_not_redis_is_told_so_and_closed() {
    let (address, ..) = open(RedisConfig::default()).await;
    assert_eq!(exchange(address, b"*1\r\n!3\r\n").await, "-ERR Protocol error: expected '$', got '!'\r\n");
    assert_eq!(exchange(address, b"*99999999\r\n").await, "-ERR Protocol error: the command is too large\r\n");
    assert_eq!(exchange(address, b"*1\r\n$999999999\r\n").await, "-ERR Protocol error: the command is too large\r\n");
}

#[tokio::test]
async fn connections_are_limited_and_end_with_the_server() {
    let (address, stop, server) = open(RedisConfig { connections_max: 1 }).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"PING\r\n").await.unwrap();
    let mut reply = [0; 7];
    first.read_exact(&mut reply).await.unwrap();
    assert!(exchange(address, b"").await.starts_with("-ERR max number of clients reached"));
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(2), server).await.unwrap().unwrap();
    assert_eq!(first.read(&mut reply).await.unwrap(), 0);
}

fn tool(name: &str, address: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new(name)
        .args(["-h", "127.0.0.1", "-p", &address.port().to_string()])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{name} must be installed for this test: {error}"));
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-cli and redis-benchmark"]
async fn redis_tools_work() {
    let (address, ..) = open(RedisConfig::default()).await;
    assert_eq!(tool("redis-cli", address, &["get", "event:1"]), "{\"id\":\"1\"}\n");
    assert_eq!(tool("redis-cli", address, &["-3", "dbsize"]).lines().last(), Some("3"));
    assert_eq!(tool("redis-cli", address, &["ttl", "event:1"]), "2\n");
    assert!(tool("redis-cli", address, &["set", "a", "b"]).contains("read only"));
    assert!(tool("redis-cli", address, &["info"]).contains("db0:keys=3"));
    let benchmark = tool("redis-benchmark", address, &["-t", "get", "-n", "50000", "-P", "16", "-q"]);
    println!("{benchmark}");
    assert!(benchmark.contains("requests per second"), "{benchmark}");
}
