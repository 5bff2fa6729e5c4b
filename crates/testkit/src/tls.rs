//! Certificates of a test's own: an authority, and the servers it vouches for.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use tempfile::NamedTempFile;

/// An authority that nobody trusts unless told to.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: NamedTempFile,
}

impl Authority {
    /// Makes one.
    ///
    /// # Panics
    /// When no temporary file can be written.
    #[expect(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority of a test");
        let issuer = CertifiedIssuer::self_signed(params, key());
        let issuer = issuer.expect("the parameters are valid");
        let file = NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), issuer.pem()).expect("the file was just made");
        Self { issuer, file }
    }

    /// The file with its certificate. Gone with it.
    pub fn file(&self) -> &Path {
        self.file.path()
    }

    /// Who a server is that it vouches for, by that name.
    ///
    /// # Panics
    /// When it is no name.
    pub fn vouch_for(&self, name: &str) -> Identity {
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer);
        Identity {
            certificate: certificate.expect("the parameters are valid").pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Who a server says it is, and the key that shows it. In tests only: both in PEM.
pub struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    /// Names of files, as PostgreSQL expects them, and what is in them.
    pub(crate) fn files(&self) -> [(&'static str, &str); 2] {
        [("server.crt", &self.certificate), ("server.key", &self.key)]
    }

    /// What makes RabbitMQ listen with it, once its files are in the folder.
    pub(crate) fn rabbitmq_configuration(&self, port: u16, folder: &Path) -> String {
        let folder = folder.display();
        format!(
            "listeners.ssl.1 = {port}\n\
             ssl_options.certfile = {folder}/server.crt\n\
             ssl_options.keyfile = {folder}/server.key\n\
             ssl_options.verify = verify_none\n"
        )
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the operating system gives random bytes")
}

/// A client of HTTP. Programs install the provider of its cryptography when they start; tests do here.
pub fn http_client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::new()
}
