//! One connection to the broker, and what its errors mean to a person.

use std::{fmt, path::PathBuf, time::Duration};

use lapin::{Connection, ConnectionProperties, ErrorKind, uri::AMQPUri};
use rekey_domain::{BROKER_PARAMETERS, may_show_password};
use url::{Host, Url};

use super::wire;
use crate::BrokerError;

/// Seconds; a dead peer is noticed within two of them.
const HEARTBEAT: u16 = 10;
/// From the first packet to a usable connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// How many characters of the broker's error texts are passed on.
const LONGEST_WORDS: usize = 300;

/// Where the broker is.
#[derive(Clone)]
pub(super) struct Server {
    uri: AMQPUri,
    /// Certificates of authorities to trust beside the system's, for `amqps`.
    authorities: Option<PathBuf>,
    name: String,
}

// The URI holds a password.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.place()).finish()
    }
}

impl Server {
    /// Reads a URL. Its errors never show it.
    pub(super) fn parse(url: &str, name: &str) -> Result<Self, BrokerError> {
        let refused = || BrokerError::Options {
            what: "the broker's URL",
            expected: "such as amqp://user:password@host:5672/%2f, with / ? # and @ of a password as %2F %3F %23 and %40",
        };
        if may_show_password(url) {
            return Err(refused());
        }
        let mut uri: AMQPUri = url.parse().map_err(|_| refused())?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        let url = Url::parse(url).map_err(|_| refused())?;
        let is_known = |parameter: &str| BROKER_PARAMETERS.contains(&parameter);
        if !url.query_pairs().all(|(parameter, _)| is_known(&parameter)) {
            return Err(BrokerError::Options {
                what: "the parameters of the broker's URL",
                expected: "none but heartbeat, cacertfile, auth_mechanism, channel_max, frame_max and connection_timeout",
            });
        }
        // lapin would take it for localhost.
        if let Some(Host::Ipv6(host)) = url.host() {
            uri.authority.host = host.to_string();
        }
        // Called as RabbitMQ's own clients call it.
        let mut parameters = url.query_pairs();
        let authorities = parameters.find(|(parameter, _)| parameter == "cacertfile");
        Ok(Self {
            uri,
            authorities: authorities.map(|(_, file)| PathBuf::from(&*file)),
            name: name.to_owned(),
        })
    }

    /// Connects once.
    pub(super) async fn connect(&self, what: &str) -> Result<Connection, BrokerError> {
        let name = format!("{} {what}", self.name);
        let properties = ConnectionProperties::default().with_connection_name(name.trim().into());
        let authorities = self.authorities().await?;
        let connecting = wire::connect(self.uri.clone(), properties, authorities);
        match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
            Ok(connected) => connected.map_err(|error| self.explain(&error)),
            Err(_) => Err(self.out_of_reach("it did not answer in time")),
        }
    }

    pub(super) fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Read at each connect, as certificates are renewed.
    async fn authorities(&self) -> Result<Option<String>, BrokerError> {
        let Some(file) = &self.authorities else {
            return Ok(None);
        };
        let pem = tokio::fs::read_to_string(file).await;
        let unreadable = |error| format!("cacertfile {}: {error}", file.display());
        pem.map(Some)
            .map_err(|error| self.out_of_reach(&unreadable(error)))
    }

    fn place(&self) -> String {
        let authority = &self.uri.authority;
        format!("{}:{}", authority.host, authority.port)
    }

    pub(super) fn out_of_reach(&self, why: &str) -> BrokerError {
        BrokerError::OutOfReach {
            place: self.place(),
            why: why.to_owned(),
        }
    }

    /// What an error means, and what helps.
    pub(super) fn explain(&self, error: &lapin::Error) -> BrokerError {
        let ErrorKind::ProtocolError(said) = error.kind() else {
            let mut why = error.to_string();
            if why.contains("certificate") {
                why += "; name the file with its authority's certificate as cacertfile in the broker's URL";
            }
            return self.out_of_reach(&why);
        };
        // Its words are of exchanges, queues, users and virtual hosts, never of what is in a message.
        let why = said.get_message().to_string();
        let why: String = why.chars().take(LONGEST_WORDS).collect();
        let remedy = match said.get_id() {
            403 if why.contains("Login was refused") => {
                "correct user and password in the broker's URL"
            }
            403 => "give the user the permissions that rekey grants prints",
            404 => "run rekey migrate as a user who may configure exchanges and queues",
            406 => {
                "it was declared otherwise: delete it once it is empty, and it is declared as it must be"
            }
            530 => "correct the virtual host in the broker's URL, or give the user access to it",
            _ => return self.out_of_reach(&why),
        };
        BrokerError::Refused {
            place: self.place(),
            why,
            remedy,
        }
    }
}

/// Ends a connection so that what it held unsettled is delivered elsewhere at once.
pub(super) async fn close(connection: &Connection) {
    let closing = connection.close(200, "OK".into());
    let _ = tokio::time::timeout(CLOSE_WITHIN, closing).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_and_no_debug_output_shows_the_password() {
        let server = Server::parse("amqp://ana:s3cret@mq:5673/%2f", "test").unwrap();
        let error = server.out_of_reach("gone");
        let bad = Server::parse("amqp:s3cret", "test").unwrap_err();
        let early = Server::parse("amqp://ana:12/s3cret@mq/%2f", "test").unwrap_err();
        let shown = format!("{server:?} {error} {error:?} {bad} {bad:?} {early} {early:?}");
        assert!(
            !shown.contains("s3cret") && shown.contains("mq:5673"),
            "{shown}"
        );
    }

    #[test]
    fn a_parameter_that_nobody_reads_is_refused() {
        let of = |parameters: &str| Server::parse(&format!("amqps://mq/%2f?{parameters}"), "");
        for refused in [
            "hartbeat=3",
            "heartbeat=3&cacertfil=/x.pem",
            "verify=verify_none",
        ] {
            let error = of(refused).unwrap_err().to_string();
            assert!(error.contains("cacertfile"), "{error}");
        }
        for name in BROKER_PARAMETERS {
            let value = if name == "auth_mechanism" {
                "plain"
            } else {
                "3"
            };
            of(&format!("{name}={value}")).unwrap();
        }
    }

    #[test]
    fn an_ipv6_address_is_not_taken_for_localhost() {
        let server = Server::parse("amqp://mq:mq@[2001:db8::7]/%2f", "").unwrap();
        assert_eq!(server.uri.authority.host, "2001:db8::7");
    }

    #[test]
    fn the_heartbeat_is_ten_seconds_unless_the_url_says_otherwise() {
        let heartbeat = |url| Server::parse(url, "").unwrap().uri.query.heartbeat;
        assert_eq!(heartbeat("amqp://mq/%2f"), Some(10));
        assert_eq!(heartbeat("amqp://mq/%2f?heartbeat=3"), Some(3));
    }
}
