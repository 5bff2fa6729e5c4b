//! Mail over SMTP. Without STARTTLS and a certificate that is trusted nothing is sent.

use std::{future::Future, time::Duration};

use futures::future::join_all;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    address::Envelope,
    message::{Mailbox, MultiPart},
    transport::smtp::{self, authentication::Credentials},
};
use rekey_domain::{Answers, Reach, reach};
use rekey_operations::notifications::notice::Notice;
use rekey_runtime::config::ReceiverConfig;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

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
        let mut answers = letter.answers.clone();
        let sent = self.deliver(letter, &mut answers).await;
        sent.map_err(|failure| Failure {
            answers: Some(answers),
            ..failure
        })
    }

    async fn deliver(&self, letter: &Letter<'_>, answers: &mut Answers) -> Result<(), Failure> {
        let until = Instant::now() + WITHIN;
        in_time(until, self.look_at_addresses()).await?;
        let text = self.message(letter)?.formatted();
        let transport = self.transport()?;
        let wanted: Vec<_> = self.wanted(answers).cloned().collect();
        // All at once, each by a connection of its own: what the server does at one keeps the mail from no other.
        let attempts = wanted.iter().map(|to| {
            let attempt = self.attempt(&transport, to, &text);
            in_time(until, attempt)
        });
        let mut last = None;
        for (to, sent) in wanted.iter().zip(join_all(attempts).await) {
            note(answers, to, &sent);
            last = later_of(last, sent);
        }
        // It failed while one may take it later, or if nobody ever took it.
        match last.filter(|last| last.may_pass || answers.taken.is_empty()) {
            Some(last) => Err(last),
            None => Ok(()),
        }
    }

    async fn attempt(
        &self,
        transport: &AsyncSmtpTransport<Tokio1Executor>,
        to: &Address,
        text: &[u8],
    ) -> Result<(), Failure> {
        let envelope = self.envelope(to)?;
        let sent = transport.send_raw(&envelope, text).await;
        sent.map(drop).map_err(|error| said(&error))
    }

    fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, Failure> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(&self.server);
        let transport = transport.map_err(|error| said(&error))?.port(self.port);
        let transport = match &self.login {
            Some(login) => transport.credentials(login.clone()),
            None => transport,
        };
        Ok(transport.build())
    }

    /// The addresses that neither have it nor refused it.
    fn wanted(&self, answers: &Answers) -> impl Iterator<Item = &Address> {
        let addresses = self.to.iter().map(|to| &to.email);
        addresses.filter(|one| answers.wants(one.as_ref()))
    }

    fn envelope(&self, to: &Address) -> Result<Envelope, Failure> {
        let from = Some(self.from.email.clone());
        Envelope::new(from, vec![to.clone()])
            .map_err(|_| Failure::for_good("the mail could not be addressed"))
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

/// Fails where it is not done by then.
async fn in_time(
    until: Instant,
    attempt: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    timeout_at(until, attempt).await.unwrap_or_else(|_| {
        let within = WITHIN.as_secs();
        Err(Failure::later(format!(
            "the mail server took nothing within {within} s"
        )))
    })
}

/// Keeps what an address answered.
fn note(answers: &mut Answers, to: &Address, sent: &Result<(), Failure>) {
    match sent {
        Ok(()) => answers.taken.push(to.to_string()),
        Err(failure) => {
            tracing::warn!(
                why = failure.why,
                "an address takes no mail; the others are told"
            );
            if !failure.may_pass {
                answers.refused.push(to.to_string());
            }
        }
    }
}

/// Of two failures the one that may pass.
fn later_of(last: Option<Failure>, sent: Result<(), Failure>) -> Option<Failure> {
    match (last, sent.err()) {
        (Some(last), Some(new)) if !last.may_pass => Some(new),
        (last, new) => last.or(new),
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
