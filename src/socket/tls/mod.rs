//! TLS: from the `tls-*` directives to what accepts connections, by rustls with its `ring` provider.
//!
//! The files are read when TLS is turned on and whenever a directive of it is set; connections keep what they were
//! accepted with. A change that cannot be had leaves everything as it was.

mod certificate;
pub mod chain;
mod ciphers;
mod client;
mod files;
mod names;
mod peers;
mod sessions;

pub use certificate::Purpose;

use crate::config::{Config, TlsAuthClients};
use crate::util::sync::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion, version};
use std::sync::Arc;
use std::time::Duration;

/// The TLS of one server.
#[derive(Debug, Default)]
pub struct Tls {
    accepting: Mutex<Option<Arc<ServerConfig>>>,
    connecting: Mutex<Option<Arc<ClientConfig>>>,
}

/// Whether the configuration needs TLS at all: otherwise its files are not looked at.
pub fn is_wanted(config: &Config) -> bool {
    config.tls_port != 0 || config.tls_replication || config.tls_cluster
}

impl Tls {
    /// Reads the files and puts them into force for connections to come. The error is for the log; all stays as it was.
    pub fn configure(&self, config: &Config) -> Result<(), String> {
        let accepting = server_side(config)?;
        let connecting = client::configure(config)?;
        *self.accepting.lock() = Some(Arc::new(accepting));
        *self.connecting.lock() = Some(Arc::new(connecting));
        Ok(())
    }

    /// What a connection is accepted with; None before the first [`Tls::configure`].
    pub fn accepting(&self) -> Option<Arc<ServerConfig>> {
        self.accepting.lock().clone()
    }

    /// What other servers are connected to with; None before the first [`Tls::configure`].
    pub fn connecting(&self) -> Option<Arc<ClientConfig>> {
        self.connecting.lock().clone()
    }
}

fn server_side(config: &Config) -> Result<ServerConfig, String> {
    let certificate = config.tls_cert_file.as_deref().ok_or("No tls-cert-file configured!")?;
    let key = config.tls_key_file.as_deref().ok_or("No tls-key-file configured!")?;
    let asks_for_certificates = config.tls_auth_clients != TlsAuthClients::No;
    let trusts_somebody = config.tls_ca_cert_file.is_some() || config.tls_ca_cert_dir.is_some();
    if (asks_for_certificates || config.tls_cluster || config.tls_replication) && !trusts_somebody {
        return Err("Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, \
                    tls-replication or tls-auth-clients are enabled!"
            .to_owned());
    }
    let versions = protocols(config.tls_protocols.as_deref())?;
    let provider = Arc::new(ciphers::provider(config.tls_ciphers.as_deref(), config.tls_ciphersuites.as_deref())?);
    let password = config.tls_key_file_pass.as_deref();
    let own = files::certified_key(&config.dir, certificate, key, password, &provider)?;
    let verifier = client_verifier(config, &provider)?;
    let mut accepting = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| format!("Failed to configure tls-protocols: {error}"))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    accepting.ignore_client_order = config.tls_prefer_server_ciphers;
    remember_sessions(&mut accepting, config);
    Ok(accepting)
}

/// `tls-session-caching`. A client is given one ticket: each is a session kept here, and few clients resume.
fn remember_sessions(accepting: &mut ServerConfig, config: &Config) {
    if config.tls_session_caching {
        let lifetime = Duration::from_secs(config.tls_session_cache_timeout.into());
        accepting.session_storage = Arc::new(sessions::Sessions::new(config.tls_session_cache_size as usize, lifetime));
        accepting.send_tls13_tickets = 1;
    } else {
        accepting.session_storage = Arc::new(NoServerSessionStorage {});
        accepting.send_tls13_tickets = 0;
    }
}

fn client_verifier(config: &Config, provider: &CryptoProvider) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let algorithms = provider.signature_verification_algorithms;
    let authorities = files::authorities(config, algorithms)?;
    Ok(match config.tls_auth_clients {
        TlsAuthClients::No => Arc::new(NoClientAuth),
        asked => Arc::new(peers::Peers::new(authorities, algorithms, asked)),
    })
}

/// `tls-protocols`: versions between spaces; all by default. TLS 1.0 and 1.1 are words that Redis knows, and are not
/// spoken here: a list of nothing else is refused.
fn protocols(words: Option<&str>) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let Some(words) = words else { return Ok(vec![&version::TLS13, &version::TLS12]) };
    let mut versions = Vec::new();
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "tlsv1" | "tlsv1.1" => {}
            "tlsv1.2" => versions.push(&version::TLS12),
            "tlsv1.3" => versions.push(&version::TLS13),
            _ => {
                return Err("Invalid tls-protocols specified. \
                            Use a combination of 'TLSv1', 'TLSv1.1', 'TLSv1.2' and 'TLSv1.3'."
                    .to_owned());
            }
        }
    }
    if versions.is_empty() {
        return Err(format!("Failed to configure tls-protocols: {words}: only TLSv1.2 and TLSv1.3 are supported"));
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_words() {
        let names = |words| protocols(words).map(|found| found.iter().map(|v| v.version).collect::<Vec<_>>());
        use rustls::ProtocolVersion::{TLSv1_2, TLSv1_3};
        assert_eq!(names(None), Ok(vec![TLSv1_3, TLSv1_2]));
        assert_eq!(names(Some("TLSv1.1 tlsV1.2")), Ok(vec![TLSv1_2]));
        assert!(names(Some("TLSv1.1")).is_err_and(|reason| reason.contains("only TLSv1.2 and TLSv1.3")));
        assert!(names(Some("TLSv1.3 SSLv3")).is_err_and(|reason| reason.starts_with("Invalid tls-protocols")));
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = |config: &Config| server_side(config).expect_err("something is missing");
        let mut config = Config { tls_port: 1, ..Config::default() };
        assert_eq!(refused(&config), "No tls-cert-file configured!");
        config.tls_cert_file = Some("/nowhere.crt".to_owned());
        assert_eq!(refused(&config), "No tls-key-file configured!");
        config.tls_key_file = Some("/nowhere.key".to_owned());
        assert!(refused(&config).starts_with("Either tls-ca-cert-file or tls-ca-cert-dir"), "{}", refused(&config));
        config.tls_auth_clients = TlsAuthClients::No;
        assert_eq!(refused(&config), "Failed to load certificate: /nowhere.crt: No such file or directory");
    }
}
