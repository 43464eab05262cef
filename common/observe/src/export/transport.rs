//! How bytes get to a collector: OTLP over HTTP or over gRPC, in the clear or in TLS.
//!
//! What is sent is finished protobuf, so neither way knows what is in it. HTTP goes
//! through a blocking client, since whoever sends has a thread of its own; gRPC needs
//! a runtime, which is that thread's too and shares nothing with the one that serves.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use super::reply::Reply;
use super::{Otlp, OtlpProtocol, Signal};

/// How long a collector may take for one batch.
pub(crate) const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// What of an answer is read. A collector has little to say.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// One signal's way to the collector.
pub(crate) enum Transport {
    Http(Http),
    Grpc(Box<Grpc>),
    /// It cannot be built; every batch fails with this sentence.
    Unusable(String),
}

impl Transport {
    pub(crate) fn new(otlp: &Otlp, signal: Signal) -> Self {
        let built = match otlp.protocol {
            OtlpProtocol::HttpProtobuf => Http::new(otlp, signal).map(Transport::Http),
            OtlpProtocol::Grpc => {
                Grpc::new(otlp, signal).map(|grpc| Transport::Grpc(Box::new(grpc)))
            }
        };
        built.unwrap_or_else(Transport::Unusable)
    }

    /// Sends one batch and gives its memory back. Waits at most [`EXPORT_TIMEOUT`].
    pub(crate) fn send(&mut self, batch: Vec<u8>) -> (Vec<u8>, Result<Reply, String>) {
        match self {
            Transport::Http(http) => {
                let sent = http.send(&batch);
                (batch, sent)
            }
            Transport::Grpc(grpc) => grpc.send(batch),
            Transport::Unusable(why) => (batch, Err(why.clone())),
        }
    }
}

/// OTLP/HTTP with binary protobuf.
pub(crate) struct Http {
    agent: ureq::Agent,
    url: String,
    headers: Vec<(String, String)>,
}

impl Http {
    fn new(otlp: &Otlp, signal: Signal) -> Result<Self, String> {
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(EXPORT_TIMEOUT))
            // Nothing we sign or send follows a redirect.
            .max_redirects(0)
            .proxy(None)
            .user_agent(super::USER_AGENT);
        if otlp.endpoint.starts_with("https:") {
            let roots = roots(otlp)?;
            let tls = TlsConfig::builder()
                .provider(TlsProvider::Rustls)
                .root_certs(RootCerts::Specific(Arc::new(roots)))
                .unversioned_rustls_crypto_provider(Arc::new(
                    rustls::crypto::ring::default_provider(),
                ))
                .build();
            config = config.tls_config(tls);
        }
        Ok(Self {
            agent: config.build().new_agent(),
            url: url(&otlp.endpoint, signal),
            headers: otlp.headers.clone(),
        })
    }

    fn send(&self, batch: &[u8]) -> Result<Reply, String> {
        let mut request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/x-protobuf");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut answer = request.send(batch).map_err(|error| error.to_string())?;
        // With its answer read, the connection is good for the next batch.
        let body = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec();
        let status = answer.status().as_u16();
        if (200..300).contains(&status) {
            // A body that breaks off tells nothing, but the batch was taken.
            Ok(Reply::read(&body.unwrap_or_default()))
        } else {
            Err(format!("the collector answered {status}"))
        }
    }
}

/// The collector's URL for a signal. As the OTLP exporter specification has it for one
/// endpoint for all signals: the signal's path is appended; a full one stays.
fn url(endpoint: &str, signal: Signal) -> String {
    let base = endpoint.trim_end_matches('/');
    let mut base = base;
    for other in Signal::ALL {
        base = base.strip_suffix(other.path()).unwrap_or(base);
    }
    format!("{base}{}", signal.path())
}

/// Certificates of whoever may vouch for the collector.
fn roots(otlp: &Otlp) -> Result<Vec<ureq::tls::Certificate<'static>>, String> {
    match &otlp.ca_pem {
        Some(pem) => ureq::tls::parse_pem(pem.as_bytes())
            .filter_map(|item| match item {
                Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(Ok(certificate)),
                Ok(_) => None,
                Err(error) => Some(Err(format!("the collector's CA: {error}"))),
            })
            .collect(),
        None => {
            let found = rustls_native_certs::load_native_certs();
            let certificates = found.certs.iter();
            Ok(certificates
                .map(|der| ureq::tls::Certificate::from_der(der).to_owned())
                .collect())
        }
    }
}

/// OTLP/gRPC: one unary call a batch.
pub(crate) struct Grpc {
    runtime: tokio::runtime::Runtime,
    client: tonic::client::Grpc<Channel>,
    signal: Signal,
    headers: Vec<(AsciiMetadataKey, AsciiMetadataValue)>,
}

impl Grpc {
    fn new(otlp: &Otlp, signal: Signal) -> Result<Self, String> {
        // A worker of its own answers pings and sees a closed connection between two
        // batches as well.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("export-grpc")
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let mut endpoint = Endpoint::from_shared(otlp.endpoint.clone())
            .map_err(|error| error.to_string())?
            .timeout(EXPORT_TIMEOUT)
            .connect_timeout(EXPORT_TIMEOUT)
            .user_agent(super::USER_AGENT)
            .map_err(|error| error.to_string())?;
        if otlp.endpoint.starts_with("https:") {
            let tls = ClientTlsConfig::new();
            let tls = match &otlp.ca_pem {
                Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                None => tls.with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(|error| told(&error))?;
        }
        let headers = otlp.headers.iter().map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            let key = AsciiMetadataKey::from_bytes(name.as_bytes()).ok();
            // The value may be a secret, so it is not in the message.
            key.zip(value.parse().ok())
                .ok_or_else(|| format!("the header {name} cannot be sent"))
        });
        let headers = headers.collect::<Result<_, _>>()?;
        let channel = {
            let _context = runtime.enter();
            endpoint.connect_lazy()
        };
        Ok(Self {
            client: tonic::client::Grpc::new(channel),
            runtime,
            signal,
            headers,
        })
    }

    fn send(&mut self, batch: Vec<u8>) -> (Vec<u8>, Result<Reply, String>) {
        let batch = Arc::new(batch);
        let mut request = tonic::Request::new(Arc::clone(&batch));
        for (name, value) in &self.headers {
            request.metadata_mut().insert(name.clone(), value.clone());
        }
        let client = &mut self.client;
        let path = self.signal.method();
        let call = async {
            client
                .ready()
                .await
                .map_err(|error| Status::unavailable(told(&error)))?;
            let path = path.parse().map_err(|_| Status::internal("a bad path"))?;
            client.unary(request, path, Passed).await
        };
        let sent = self.runtime.block_on(async {
            match tokio::time::timeout(EXPORT_TIMEOUT, call).await {
                Ok(Ok(answer)) => Ok(answer.into_inner()),
                Ok(Err(status)) => Err(refusal(&status)),
                Err(_) => Err("the collector did not answer in time".to_owned()),
            }
        });
        // With the call over, nobody else holds it.
        (Arc::try_unwrap(batch).unwrap_or_default(), sent)
    }
}

/// What a failed call says, its causes included: `transport error` alone helps nobody.
fn refusal(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    if let Some(source) = std::error::Error::source(status) {
        text.push_str(": ");
        text.push_str(&told(source));
    }
    text
}

fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// Messages that are bytes already, and answers of which little is read.
#[derive(Debug, Clone, Copy, Default)]
struct Passed;

impl Codec for Passed {
    type Encode = Arc<Vec<u8>>;
    type Decode = Reply;
    type Encoder = Passed;
    type Decoder = Passed;

    fn encoder(&mut self) -> Passed {
        Passed
    }

    fn decoder(&mut self) -> Passed {
        Passed
    }
}

impl Encoder for Passed {
    type Item = Arc<Vec<u8>>;
    type Error = Status;

    fn encode(&mut self, item: Arc<Vec<u8>>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(item.len());
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Passed {
    type Item = Reply;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Reply>, Status> {
        let message = bytes.copy_to_bytes(bytes.remaining());
        Ok(Some(Reply::read(&message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signals_url() {
        for (endpoint, full) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("http://c/otlp", "http://c/otlp/v1/traces"),
            ("http://c/v1/traces", "http://c/v1/traces"),
        ] {
            assert_eq!(url(endpoint, Signal::Traces), full);
        }
    }
}
