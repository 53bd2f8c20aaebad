//! What rustls asks about the certificates that peers show, answered by [`Authorities`]: of clients, and of servers that
//! are connected to.
//!
//! Names in a server's certificate are not compared, as in Redis: servers know each other by addresses.

use super::certificate::{Certificate, Purpose};
use super::chain::Authorities;
use crate::config::TlsAuthClients;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::RawPublicKeyEntity;

/// Decides on clients, where they are asked for certificates, and on servers.
#[derive(Debug)]
pub(super) struct Peers {
    authorities: Authorities,
    algorithms: WebPkiSupportedAlgorithms,
    is_mandatory: bool,
}

impl Peers {
    pub(super) fn new(authorities: Authorities, algorithms: WebPkiSupportedAlgorithms, asked: TlsAuthClients) -> Self {
        Peers { authorities, algorithms, is_mandatory: asked == TlsAuthClients::Yes }
    }

    /// Whether the peer has the certificate's key. Under TLS 1.2 the scheme does not say the curve: each is tried.
    fn verify_tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = parse(certificate)?;
        let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
        let key = certificate.key();
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| bad())?;
        let mut fits = self.algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
        let is_signed = fits.any(|(_, algorithms)| {
            algorithms.iter().any(|known| key.verify_signature(*known, message, signed.signature()).is_ok())
        });
        if is_signed { Ok(HandshakeSignatureValid::assertion()) } else { Err(bad()) }
    }

    fn verify_tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = parse(certificate)?;
        verify_tls13_signature_with_raw_key(message, &certificate.key(), signed, &self.algorithms)
    }
}

fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::parse(certificate).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// What rustls asks of clients and of servers in the same words, but by two traits.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.verify_tls12(message, certificate, signed)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.verify_tls13(message, certificate, signed)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

impl ClientCertVerifier for Peers {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    /// None, as from Redis: clients show what they have.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.authorities.verify(end_entity, intermediates, Purpose::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}

impl ServerCertVerifier for Peers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.authorities.verify(end_entity, intermediates, Purpose::Server, now)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}
