//! The admin API of a running Playhouse, as a client sees it.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// A page of a thousand events of 4 MiB would be larger, and is asked for in smaller ones.
const ANSWER_BYTES_MAX: usize = 256 << 20;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct AdminArgs {
    /// Admin door of a running Playhouse
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    admin: String,
    /// How long to wait for an answer
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = playhouse_generate::parse_span)]
    timeout: Duration,
    /// API key, where the door asks for one
    #[arg(long, value_name = "KEY", env = "PLAYHOUSE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

impl AdminArgs {
    /// The JSON that `path` answers with; values of the query are encoded here.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        let request = Request::get(self.uri(&format!("{path}{}", query_string(query)))?);
        self.exchange(request.body(Full::default())?).await
    }

    /// What `path` answers to a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = Request::post(self.uri(path)?).header(CONTENT_TYPE, "application/json");
        self.exchange(request.body(Full::from(body.to_string()))?).await
    }

    fn root(&self) -> &str {
        self.admin.trim_end_matches('/')
    }

    fn uri(&self, path: &str) -> Result<Uri> {
        let root = self.root();
        format!("{root}{path}")
            .parse()
            .ok()
            .filter(|uri: &Uri| uri.scheme_str() == Some("http"))
            .with_context(|| format!("{root:?} is not the address of an admin door (like http://127.0.0.1:8080)"))
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Value> {
        let root = self.root();
        let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        if let Some(key) = &self.api_key {
            let value = HeaderValue::try_from(format!("Bearer {key}")).context("--api-key is none")?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let exchange = async {
            let response = client.request(request).await.map_err(|error| anyhow!("{}", cause(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|error| anyhow!("{error}"))?.to_bytes()))
        };
        let answered: Result<_> = match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answered) => answered,
            Err(_) => bail!("{root} did not answer within {} s (--timeout)", self.timeout.as_secs()),
        };
        let (status, body) =
            answered.with_context(|| format!("no answer from {root} (--admin URL names another Playhouse)"))?;
        let answer: Value = serde_json::from_slice(&body)
            .with_context(|| format!("{root} answers with {status} and no JSON: is it an admin door?"))?;
        if !status.is_success() {
            bail!("{}", answer["detail"].as_str().unwrap_or(status.as_str()));
        }
        Ok(answer)
    }
}

/// The innermost error: the others only say that there is one.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn query_string(query: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in query {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.push_str(&encode(value));
    }
    text
}

/// Percent-encoding of everything but RFC 3986's unreserved characters.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded() {
        let query = [("path", "/a b&c".to_owned()), ("text", "é=1".to_owned())];
        assert_eq!(query_string(&query), "?path=%2Fa%20b%26c&text=%C3%A9%3D1");
        assert_eq!(query_string(&[]), "");
    }
}
