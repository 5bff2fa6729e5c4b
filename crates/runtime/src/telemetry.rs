//! Logs on stderr, for people; `REKEY_LOG` says how much. Our own words only, each event on a line.

use std::{
    io::{self, IsTerminal, Write},
    panic::{self, PanicHookInfo},
};

use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, fmt::MakeWriter, layer::SubscriberExt, registry,
    util::SubscriberInitExt,
};

use crate::one_line::one_line;

/// Starts logging. `quiet` is the level where `REKEY_LOG` says nothing.
pub fn init(quiet: &str) {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let how_much = EnvFilter::try_from_env("REKEY_LOG").unwrap_or_else(|_| EnvFilter::new(quiet));
    let lines = Lines {
        to: io::stderr,
        colours,
    };
    // A second call, as in tests, changes nothing.
    let _ = registry().with(layer(lines, how_much)).try_init();
    panic::set_hook(Box::new(log_panic));
}

fn layer<S, W>(lines: Lines<W>, how_much: EnvFilter) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> registry::LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(lines.colours)
        .with_writer(lines)
        .with_filter(how_much)
        .with_filter(filter_fn(is_ours))
}

/// Libraries log what they are told: what a trigger raised, or what a server or a peer wrote. What matters of it they
/// also return to us, and we say it in our words, so their logs are never shown, whatever `REKEY_LOG` says.
fn is_ours(event: &Metadata<'_>) -> bool {
    event.target().starts_with("rekey")
}

/// Logs where a panic came from. A formatted message may quote an unexpected value, so only a constant one is shown.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let said = panic.payload().downcast_ref::<&'static str>();
    let said = said.unwrap_or(&"what was not expected is not shown");
    tracing::error!(place, said, "panicked, which is a defect of Rekey");
}

/// Writes each event as one line, whatever is in it.
struct Lines<W> {
    to: W,
    colours: bool,
}

struct Line<W> {
    to: W,
    colours: bool,
}

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Lines<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Line {
            to: self.to.make_writer(),
            colours: self.colours,
        }
    }
}

impl<W: Write> Write for Line<W> {
    /// An event comes whole, with its end of line.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let line = if self.colours {
            escape_between_colours(text)
        } else {
            one_line(text).into_owned()
        };
        self.to.write_all(format!("{line}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Keeps the formatter's own colours, `ESC [ … m`; it has already escaped those in texts.
fn escape_between_colours(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let mut line = one_line(pieces.next().unwrap_or_default()).into_owned();
    for piece in pieces {
        let colour = piece.find(|c: char| !c.is_ascii_digit() && c != ';');
        match colour.map(|end| piece.split_at(end)) {
            Some((colour, rest)) if rest.starts_with('m') => {
                line.extend(["\u{1b}[", colour, &one_line(rest)]);
            }
            _ => line.extend(["\\u{1b}[", &one_line(piece)]),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(colours: bool, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let to = kept.clone();
        let lines = Lines {
            to: move || to.clone(),
            colours,
        };
        let filter = EnvFilter::new("trace,sqlx::postgres::notice=trace");
        let subscriber = registry().with(layer(lines, filter));
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    const FORGED: &str =
        "patients\n2026-01-01T00:00:00Z ERROR rekey: forged\r\u{1b}[2J\u{2028}\u{202e}";

    #[test]
    fn nothing_in_an_event_makes_another_line_or_steers_a_terminal() {
        for colours in [false, true] {
            let log = || {
                tracing::info!(part = FORGED, shown = %FORGED, said = ?FORGED, "{FORGED}");
                tracing::warn!("the next");
            };
            let logged = logged(colours, log);
            let lines: Vec<&str> = logged.split('\n').collect();
            assert_eq!(lines.len(), 3, "{logged:?}");
            let plain = |c: char| !c.is_control() && !('\u{2028}'..='\u{202e}').contains(&c);
            let esc = |c: char| colours && c == '\u{1b}';
            assert!(lines[0].chars().all(|c| plain(c) || esc(c)), "{logged:?}");
            assert!(!logged.contains("\u{1b}[2J"), "{logged:?}");
            assert_eq!(logged.contains("\u{1b}["), colours, "{logged:?}");
        }
    }

    #[test]
    fn what_libraries_say_is_not_logged_whatever_is_asked_for() {
        let logged = logged(false, || {
            tracing::info!(target: "sqlx::postgres::notice", "a patient's name");
            tracing::error!(target: "lapin::channel", "a patient's name");
            tracing::trace!("ours");
        });
        assert!(
            !logged.contains("patient") && logged.contains("ours"),
            "{logged}"
        );
    }
}
