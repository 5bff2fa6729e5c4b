//! A body of a message becomes text that a row can hold.

use rekey_messages::MAX_EVENT_BYTES;

/// A body as text. What is no event anyway is cut to what a row can hold: one byte more than an event may have, and no
/// NUL.
pub(super) fn text(body: &[u8]) -> String {
    let body = &body[..body.len().min(MAX_EVENT_BYTES + 1)];
    String::from_utf8_lossy(body).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use rekey_messages::Event;

    use super::*;

    #[test]
    fn a_body_that_no_row_takes_becomes_one_that_no_event_is() {
        let hostile = [vec![0], vec![0xff; 3], vec![b'x'; 2 * MAX_EVENT_BYTES]];
        for body in hostile {
            let text = text(&body);
            assert!(!text.contains('\0') && text.len() <= 3 * (MAX_EVENT_BYTES + 1));
            assert!(Event::parse(text.as_bytes()).is_err());
        }
    }
}
