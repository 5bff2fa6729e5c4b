//! Mail over SMTP. Without STARTTLS and a certificate that is trusted nothing is sent.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    address::Envelope,
    message::{Mailbox, MultiPart},
    transport::smtp::{self, authentication::Credentials},
};
use rekey_domain::{Reach, reach};
use rekey_operations::notifications::notice::Notice;
use rekey_runtime::config::ReceiverConfig;
use secrecy::ExposeSecret;

use super::{problem::Problem, secrets};
use crate::letter::{Failure, Letter, escaped, lines};

/// From the first look at the name to the server's last word.
const WITHIN: Duration = Duration::from_secs(30);

/// A mail server, and who gets mail.
pub struct Mail {
    server: String,
    port: u16,
    from: Mailbox,
    to: Vec<Mailbox>,
    login: Option<Credentials>,
}

impl Mail {
    pub(super) fn open(config: &ReceiverConfig) -> Result<Self, Problem> {
        let ReceiverConfig::Mail {
            server,
            port,
            from,
            to,
            user,
            secret_file,
        } = config
        else {
            unreachable!("only mail is opened as mail");
        };
        let mailbox = |key, address: &String| {
            address.parse::<Mailbox>().map_err(|_| Problem {
                key,
                problem: "expected a mail address such as ops@clinic.example".to_owned(),
                is_missing: false,
            })
        };
        let login = match (user, secret_file) {
            (Some(user), Some(file)) => {
                let password = secrets::read("secret_file", file)?;
                let password = password.expose_secret().to_owned();
                Some(Credentials::new(user.clone(), password))
            }
            _ => None,
        };
        Ok(Self {
            server: server.clone(),
            port: *port,
            from: mailbox("from", from)?,
            to: to
                .iter()
                .map(|one| mailbox("to", one))
                .collect::<Result<_, _>>()?,
            login,
        })
    }

    pub(super) async fn send(&self, letter: &Letter<'_>) -> Result<(), Failure> {
        let sent = tokio::time::timeout(WITHIN, self.deliver(letter)).await;
        sent.unwrap_or_else(|_| {
            let within = WITHIN.as_secs();
            Err(Failure::later(format!(
                "the mail server took nothing within {within} s"
            )))
        })
    }

    async fn deliver(&self, letter: &Letter<'_>) -> Result<(), Failure> {
        self.look_at_addresses().await?;
        let message = self.message(letter)?;
        let transport = AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(&self.server);
        let transport = transport.map_err(|error| said(&error))?.port(self.port);
        let transport = match &self.login {
            Some(login) => transport.credentials(login.clone()),
            None => transport,
        };
        let transport = transport.build();
        match transport.send(message.clone()).await {
            Ok(_) => Ok(()),
            Err(error) if self.to.len() > 1 && error.is_permanent() => {
                self.deliver_each(&transport, &message).await
            }
            Err(error) => Err(said(&error)),
        }
    }

    /// One address that is refused keeps the mail from no other.
    async fn deliver_each(
        &self,
        transport: &AsyncSmtpTransport<Tokio1Executor>,
        message: &Message,
    ) -> Result<(), Failure> {
        let (text, from) = (message.formatted(), Some(self.from.email.clone()));
        let (mut taken, mut refused) = (false, None);
        for (at, to) in self.to.iter().enumerate() {
            let envelope = Envelope::new(from.clone(), vec![to.email.clone()]);
            let envelope = envelope.expect("a mail to one address has an envelope");
            match transport.send_raw(&envelope, &text).await {
                Ok(_) => taken = true,
                Err(error) => {
                    let failure = said(&error);
                    tracing::warn!(
                        address = at + 1,
                        why = failure.why,
                        "the channel's other addresses are told"
                    );
                    refused = Some(failure);
                }
            }
        }
        match refused.filter(|_| !taken) {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }

    /// Mail servers are private as a rule; link-local and what is reserved is no mail server.
    async fn look_at_addresses(&self) -> Result<(), Failure> {
        let found = tokio::net::lookup_host((self.server.as_str(), self.port)).await;
        let found: Vec<_> = found.map(Iterator::collect).unwrap_or_default();
        if found.is_empty() {
            return Err(Failure::later("the mail server's name does not resolve"));
        }
        match found.iter().find(|one| reach(one.ip()) == Reach::Never) {
            Some(never) => Err(Failure::later(format!(
                "the mail server's name leads to {}, to which nothing is ever sent",
                never.ip()
            ))),
            None => Ok(()),
        }
    }

    fn message(&self, letter: &Letter<'_>) -> Result<Message, Failure> {
        let notice = letter.notice;
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(notice.title())
            // The same for all attempts, so that a mail that came twice is known for one.
            .message_id(Some(format!("<{}@rekey>", letter.id)));
        for to in &self.to {
            message = message.to(to.clone());
        }
        let body = MultiPart::alternative_plain_html(plain(notice), html(notice));
        let wrong = |_| Failure::for_good("the mail could not be written");
        message.multipart(body).map_err(wrong)
    }
}

/// What went wrong, without the server's words.
fn said(error: &smtp::Error) -> Failure {
    let code = error.status().map(|code| code.to_string());
    let answered = |said: String| format!("the mail server answered {said}");
    match code {
        Some(code) if error.is_permanent() => Failure::for_good(answered(code)),
        Some(code) => Failure::later(answered(code)),
        None if error.is_tls() => {
            Failure::later("the mail server offers no STARTTLS, or its certificate is not trusted")
        }
        None => Failure::later("no connection to the mail server, no STARTTLS, or it broke off"),
    }
}

fn plain(notice: &Notice) -> String {
    let said = lines(notice).map(|(name, value)| format!("{name}: {value}\n"));
    format!("{}\n\n{}", notice.title(), said.collect::<String>())
}

fn html(notice: &Notice) -> String {
    let row = |(name, value): (&str, String)| {
        format!("<tr><td>{name}</td><td>{}</td></tr>", escaped(&value))
    };
    let rows: String = lines(notice).map(row).collect();
    let title = escaped(&notice.title());
    format!("<h3>{title}</h3><table>{rows}</table>")
}
