//! TLS where this server is the client: MIGRATE under `tls-cluster`.
//!
//! The other side's certificate must come from an authority of `tls-ca-cert-file` or `-dir`.

use super::peers::Peers;
use super::{ciphers, files, protocols};
use crate::config::Config;
use rustls::ClientConfig;
use rustls::sign::SingleCertAndKey;
use std::sync::Arc;

/// What connections to other servers are made with. Shows the certificate of `tls-client-cert-file`, by default the
/// server's own. The error is for the log.
pub(super) fn configure(config: &Config) -> Result<ClientConfig, String> {
    let versions = protocols(config.tls_protocols.as_deref())?;
    let provider = Arc::new(ciphers::provider(config.tls_ciphers.as_deref(), config.tls_ciphersuites.as_deref())?);
    let (certificate, key, password) = match (&config.tls_client_cert_file, &config.tls_client_key_file) {
        (Some(certificate), Some(key)) => (Some(certificate), Some(key), &config.tls_client_key_file_pass),
        _ => (config.tls_cert_file.as_ref(), config.tls_key_file.as_ref(), &config.tls_key_file_pass),
    };
    let certificate = certificate.ok_or("No tls-cert-file configured!")?;
    let key = key.ok_or("No tls-key-file configured!")?;
    let own = files::certified_key(&config.dir, certificate, key, password.as_deref(), &provider)?;
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Peers::new(files::authorities(config, algorithms)?, algorithms, config.tls_auth_clients);
    let mut connecting = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| format!("Failed to configure tls-protocols: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    connecting.enable_sni = false;
    Ok(connecting)
}
