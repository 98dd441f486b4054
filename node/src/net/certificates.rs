//! TLS between peers: certificates as libp2p's TLS specification has them, each bound to the peer's key by an extension. TLS 1.3 only.
//!
//! The ciphers come in the order that suits the processor: AES-GCM where it has instructions for it (three times as fast), else ChaCha20.

use std::sync::Arc;

use libp2p::identity::Keypair;
use libp2p_tls::certificate;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ResolvesServerCert;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme, version,
};

use super::NetError;

/// Our certificate, and what is needed to check others'.
#[derive(Debug)]
pub(super) struct Certificates {
    own: Arc<SingleCertAndKey>,
    provider: Arc<CryptoProvider>,
    protocol: Vec<u8>,
}

impl Certificates {
    /// A fresh certificate for this key; `protocol` is what both sides must name (ALPN, RFC 7301).
    pub fn new(keypair: &Keypair, protocol: &str) -> Result<Self, NetError> {
        let (certificate, key) = certificate::generate(keypair).map_err(failed)?;
        let mut provider = aws_lc_rs::default_provider();
        let aes = [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384];
        let chacha = cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
        provider.cipher_suites = if has_aes() { vec![aes[0], aes[1], chacha] } else { vec![chacha, aes[0], aes[1]] };
        // Not `with_single_cert`: it refuses the critical extension that the specification asks for.
        let key = provider.key_provider.load_private_key(key).map_err(failed)?;
        let own = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key)));
        Ok(Self { own, provider: Arc::new(provider), protocol: protocol.as_bytes().to_vec() })
    }

    /// For accepting connections from any peer; who it is shows after the handshake.
    pub fn server(&self) -> Result<ServerConfig, NetError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(Arc::new(Verifier { expected: None }))
            .with_cert_resolver(Arc::clone(&self.own) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![self.protocol.clone()];
        // A transfer stream lives long; resuming sessions would only keep secrets around.
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = true;
        Ok(config)
    }

    /// For connecting to this peer and no other.
    pub fn client(&self, expected: libp2p::PeerId) -> Result<ClientConfig, NetError> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { expected: Some(expected) }))
            .with_client_cert_resolver(Arc::clone(&self.own) as Arc<dyn ResolvesClientCert>);
        config.alpn_protocols = vec![self.protocol.clone()];
        config.enable_sni = false;
        config.enable_secret_extraction = true;
        Ok(config)
    }
}

/// The peer that presented these certificates in a handshake which has been verified.
pub(super) fn peer_of(certificates: Option<&[CertificateDer<'_>]>) -> Option<libp2p::PeerId> {
    match certificates {
        Some([only]) => certificate::parse(only).ok().map(|parsed| parsed.peer_id()),
        _ => None,
    }
}

fn failed(error: impl std::error::Error) -> NetError {
    NetError::Transport { reason: error.to_string() }
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Checks what the specification asks for: one self-signed certificate whose extension proves the peer's key, and a handshake signed
/// with the certificate's.
#[derive(Debug)]
struct Verifier {
    expected: Option<libp2p::PeerId>,
}

impl Verifier {
    fn check(&self, certificate: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !chain.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        let parsed = certificate::parse(certificate).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        match self.expected {
            Some(expected) if parsed.peer_id() != expected => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(()),
        }
    }
}

fn check_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let bad = |_| Error::InvalidCertificate(CertificateError::BadSignature);
    let parsed = certificate::parse(certificate).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    parsed.verify_signature(signed.scheme, message, signed.signature()).map_err(bad)?;
    Ok(HandshakeSignatureValid::assertion())
}

fn older_version() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.3 only".to_owned()))
}

fn schemes() -> Vec<SignatureScheme> {
    // Those that an elliptic-curve certificate can have; libp2p's own are P-256.
    vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ECDSA_NISTP384_SHA384, SignatureScheme::ED25519]
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        older_version()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        older_version()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}
