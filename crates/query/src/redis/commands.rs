//! The commands: what a client needs to read the cache, and what client libraries send on their own.

use bytes::Bytes;

use super::CacheReader;
use super::resp::Reply;

/// The reply, and whether the connection ends with it.
pub(super) fn run(command: &[Bytes], cache: &dyn CacheReader) -> (Reply, bool) {
    let Some((name, arguments)) = command.split_first() else {
        return (error("ERR empty command"), false);
    };
    let name = name.to_ascii_uppercase();
    let reply = match (name.as_slice(), arguments) {
        (b"PING", []) => Reply::Simple("PONG"),
        (b"PING" | b"ECHO", [text]) => Reply::Bulk(text.clone()),
        (b"GET", [key]) => value(cache, key),
        (b"MGET", [_, ..]) => Reply::Array(arguments.iter().map(|key| value(cache, key)).collect()),
        (b"EXISTS", [_, ..]) => {
            Reply::Integer(arguments.iter().filter(|key| cache.ttl_ms(key).is_some()).count() as i64)
        }
        (b"TTL", [key]) => Reply::Integer(ttl(cache, key, 1000)),
        (b"PTTL", [key]) => Reply::Integer(ttl(cache, key, 1)),
        (b"TYPE", [key]) => Reply::Simple(if cache.ttl_ms(key).is_some() { "string" } else { "none" }),
        (b"STRLEN", [key]) => Reply::Integer(cache.get(key).map_or(0, |value| value.len() as i64)),
        (b"DBSIZE", []) => Reply::Integer(cache.len() as i64),
        (b"INFO", _) => Reply::Bulk(info(cache).into()),
        (b"SELECT", [database]) if database.as_ref() == b"0" => Reply::Simple("OK"),
        (b"SELECT", [_]) => error("ERR DB index is out of range: there is only database 0"),
        (b"CLIENT", [subcommand, ..]) => client(subcommand),
        (b"COMMAND", [subcommand, ..]) if subcommand.eq_ignore_ascii_case(b"COUNT") => Reply::Integer(0),
        (b"COMMAND", _) => Reply::Array(vec![]),
        (b"CONFIG", [subcommand, ..]) if subcommand.eq_ignore_ascii_case(b"GET") => Reply::Array(vec![]),
        // Clients that ask for RESP3 fall back to RESP2 on this very code.
        (b"HELLO", _) => error("NOPROTO this server speaks RESP2 only"),
        (b"QUIT", _) => return (Reply::Simple("OK"), true),
        (
            b"PING" | b"ECHO" | b"GET" | b"MGET" | b"EXISTS" | b"TTL" | b"PTTL" | b"TYPE" | b"STRLEN" | b"DBSIZE"
            | b"SELECT" | b"CLIENT",
            _,
        ) => error(format!("ERR wrong number of arguments for '{}' command", shown(&name).to_lowercase())),
        _ => error(format!("ERR unknown command '{}': the cache is read only", shown(&name))),
    };
    (reply, false)
}

fn value(cache: &dyn CacheReader, key: &[u8]) -> Reply {
    cache.get(key).map_or(Reply::Nil, |value| Reply::Bulk(value.into()))
}

/// As Redis: -2 for a key that is not there, -1 for one that does not expire; rounded up.
fn ttl(cache: &dyn CacheReader, key: &[u8], unit_ms: u64) -> i64 {
    match cache.ttl_ms(key) {
        None => -2,
        Some(None) => -1,
        Some(Some(left_ms)) => i64::try_from(left_ms.div_ceil(unit_ms)).unwrap_or(i64::MAX),
    }
}

fn client(subcommand: &[u8]) -> Reply {
    match subcommand.to_ascii_uppercase().as_slice() {
        b"SETINFO" | b"SETNAME" | b"NO-EVICT" | b"NO-TOUCH" | b"REPLY" => Reply::Simple("OK"),
        b"ID" => Reply::Integer(1),
        b"GETNAME" => Reply::Nil,
        other => error(format!("ERR unknown CLIENT subcommand '{}'", shown(other))),
    }
}

fn info(cache: &dyn CacheReader) -> String {
    format!(
        "# Server\r\nredis_version:7.0.0\r\nredis_mode:standalone\r\nserver_name:playhouse\r\n\
         playhouse_version:{}\r\n\r\n# Keyspace\r\ndb0:keys={}\r\n",
        env!("CARGO_PKG_VERSION"),
        cache.len()
    )
}

fn error(message: impl Into<String>) -> Reply {
    Reply::Error(message.into())
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned()
}
