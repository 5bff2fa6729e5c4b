//! The stream to a node, in the clear or over TLS. lapin would bring its own TLS, and with it readers of
//! key stores (PKCS#12, with DES and RC2) that nobody uses here; without that it would take `amqps` for
//! a stream in the clear, so every connection of ours is made here.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use async_rs::{Runtime, Tokio, traits::Reactor, util::RuntimeParts};
use futures::{AsyncRead, AsyncWrite, Stream};
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    uri::{AMQPScheme, AMQPUri},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::compat::TokioAsyncReadCompatExt;

/// A stream of either kind.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Connects once; `authorities` (PEM) are trusted beside the system's.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    authorities: Option<String>,
) -> lapin::Result<Connection> {
    let tls = match uri.scheme {
        AMQPScheme::AMQP => None,
        AMQPScheme::AMQPS => {
            // Reads files of the system.
            let trusting = move || trusting(authorities.as_deref());
            let read = tokio::task::spawn_blocking(trusting).await;
            Some(Arc::new(read.map_err(io::Error::other)??))
        }
    };
    let tokio = Tokio::current();
    let runtime = Runtime::new(RuntimeParts::new(tokio.clone(), Wires(tokio)));
    let open = async move |to: AMQPUri, _| Ok(AsyncTcpStream::Plain(open(&to, &tls).await?));
    Connection::connector(uri, runtime, open, properties).await
}

async fn open(uri: &AMQPUri, tls: &Option<Arc<ClientConfig>>) -> io::Result<Box<dyn Wire>> {
    let host = uri.authority.host.as_str();
    let stream = TcpStream::connect((host, uri.authority.port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(Box::new(stream.compat()));
    };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let secure = TlsConnector::from(tls.clone())
        .connect(name, stream)
        .await?;
    Ok(Box::new(secure.compat()))
}

fn trusting(authorities: Option<&str>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    // A certificate that cannot be read is left out.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in CertificateDer::pem_slice_iter(authorities.unwrap_or_default().as_bytes()) {
        let certificate = certificate.map_err(io::Error::other)?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Tokio, with streams of ours.
#[derive(Debug, Clone)]
struct Wires(Tokio);

impl Reactor for Wires {
    type TcpStream = Box<dyn Wire>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Box<dyn Wire>, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, every: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(every)
    }

    fn tcp_connect_addr(
        &self,
        _: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
