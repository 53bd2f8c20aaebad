//! TLS where this server is the client: MIGRATE under `tls-cluster`.
//!
//! The other side's certificate must come from an authority of `tls-ca-cert-file` or `-dir`. Names in it are not
//! compared, as in Redis: servers know each other by addresses.

use super::{ciphers, files, protocols};
use crate::config::Config;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
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
    let roots = files::roots(&config.dir, config.tls_ca_cert_file.as_deref(), config.tls_ca_cert_dir.as_deref())?;
    let verifier = FromAuthority { roots, algorithms: provider.signature_verification_algorithms };
    let mut connecting = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| format!("Failed to configure tls-protocols: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    connecting.enable_sni = false;
    Ok(connecting)
}

/// Takes certificates that an authority has signed, whatever names are in them.
#[derive(Debug)]
struct FromAuthority {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for FromAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
