//! Which product stands behind each store, and URLs that never show their password.

use std::fmt;
use std::path::{Path, PathBuf};

/// The URL of a server. Displayed and debugged without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// With the password: for the client library only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `host:port` to reach the server at.
    pub fn address(&self, default_port: u16) -> String {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let has_port =
            host.rsplit_once(':').is_some_and(|(before, port)| !before.ends_with(':') && !port.contains(']'));
        match host {
            "" => format!("localhost:{default_port}"),
            _ if has_port => host.to_string(),
            _ => format!("{host}:{default_port}"),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&mask(&self.0))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", mask(&self.0))
    }
}

/// Replaces the password of a URL: `scheme://user:***@host/…?password=***`. Other text is left as it is.
pub fn mask(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_string() };
    let (address, query) = rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
    // A password may hold a slash that its writer forgot to encode: the last @ ends it.
    let address = match address.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            None => format!("{user}@{host}"),
        },
        None => address.to_string(),
    };
    let query = query.map(|query| {
        let secret =
            |name: &str| ["password", "sslpassword", "token", "secret"].contains(&name.to_ascii_lowercase().as_str());
        let pair = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if secret(name) => format!("{name}=***"),
            _ => pair.to_string(),
        };
        format!("?{}", query.split('&').map(pair).collect::<Vec<_>>().join("&"))
    });
    format!("{scheme}://{address}{}", query.unwrap_or_default())
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tables {
    Embedded,
    Postgres(ServerUrl),
    None,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cache {
    Embedded,
    Redis(ServerUrl),
    None,
}

pub fn log(text: &str) -> Result<(), String> {
    match text {
        "embedded" => Ok(()),
        _ if text.starts_with("kafka://") => {
            Err("names an Apache Kafka cluster, which is not supported yet: use \"embedded\"".to_string())
        }
        _ => Err("is no known log: use \"embedded\"".to_string()),
    }
}

pub fn tables(text: &str) -> Result<Tables, String> {
    match text {
        "embedded" => Ok(Tables::Embedded),
        "none" => Ok(Tables::None),
        _ if has_host(text, &["postgres://", "postgresql://"]) => Ok(Tables::Postgres(ServerUrl(text.to_string()))),
        _ => Err("is no known store for tables: use \"embedded\", \"none\" or \"postgres://user:password@host:5432/database\""
            .to_string()),
    }
}

pub fn cache(text: &str) -> Result<Cache, String> {
    match text {
        "embedded" => Ok(Cache::Embedded),
        "none" => Ok(Cache::None),
        _ if has_host(text, &["redis://"]) => Ok(Cache::Redis(ServerUrl(text.to_string()))),
        _ if text.starts_with("rediss://") => Err("asks for TLS, which is not supported yet: use redis://".to_string()),
        _ => Err("is no known cache: use \"embedded\", \"none\" or \"redis://:password@host:6379/0\"".to_string()),
    }
}

/// The lake's directory.
pub fn lake(text: &str, data: &Path) -> Result<PathBuf, String> {
    match text.split_once(':') {
        Some(("file", path)) => match path.strip_prefix("//").unwrap_or(path) {
            "" => Err("names no directory: use \"file:DIRECTORY\"".to_string()),
            path => Ok(match path.strip_prefix("{data}") {
                Some(inside) => data.join(inside.trim_start_matches('/')),
                None => PathBuf::from(path),
            }),
        },
        Some(("s3", _)) => Err("names an S3 bucket, which is not supported yet: use \"file:DIRECTORY\"".to_string()),
        _ => Err("is no known lake: use \"file:DIRECTORY\"".to_string()),
    }
}

pub fn engine(text: &str) -> Result<(), String> {
    match text {
        "local" => Ok(()),
        _ => Err("is no known engine: use \"local\"".to_string()),
    }
}

fn has_host(text: &str, schemes: &[&str]) -> bool {
    schemes.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked() {
        for (url, shown) in [
            ("postgres://me:se:cr/et@db:5432/app", "postgres://me:***@db:5432/app"),
            ("postgres://me@db/app?sslmode=require&password=x", "postgres://me@db/app?sslmode=require&password=***"),
            ("redis://:secret@cache:6379/0", "redis://:***@cache:6379/0"),
            ("redis://cache", "redis://cache"),
            ("embedded", "embedded"),
        ] {
            assert_eq!(mask(url), shown);
        }
        let Ok(Tables::Postgres(url)) = tables("postgres://me:secret@db/app") else { panic!("not a URL") };
        assert!(!format!("{url} {url:?} {:?}", Tables::Postgres(url.clone())).contains("secret"));
        assert_eq!(url.expose(), "postgres://me:secret@db/app");
    }

    #[test]
    fn addresses_come_with_a_port() {
        let address = |url: &str| ServerUrl(url.to_string()).address(5432);
        assert_eq!(address("postgres://me:se@cret@db/app"), "db:5432");
        assert_eq!(address("postgres://db:6000?x=1"), "db:6000");
        assert_eq!(address("postgres://[::1]/app"), "[::1]:5432");
        assert_eq!(address("postgres://[::1]:99/app"), "[::1]:99");
        assert_eq!(address("postgres:///app"), "localhost:5432");
    }

    #[test]
    fn stores_to_come_are_refused_by_name() {
        assert!(log("kafka://a:9092").unwrap_err().contains("not supported yet"));
        assert!(lake("s3://bucket/x", Path::new("d")).unwrap_err().contains("not supported yet"));
        assert!(tables("mysql://x").unwrap_err().contains("postgres://"));
        assert!(tables("postgres://").is_err());
        assert!(cache("rediss://x").unwrap_err().contains("TLS"));
    }

    #[test]
    fn the_lake_may_stand_inside_the_data_directory() {
        assert_eq!(lake("file:{data}/lake", Path::new("/d")), Ok(PathBuf::from("/d/lake")));
        assert_eq!(lake("file:///srv/lake", Path::new("/d")), Ok(PathBuf::from("/srv/lake")));
        assert!(lake("file:", Path::new("/d")).is_err());
    }
}
