//! What went wrong at a service, in our words.

use std::error::Error;

use object_store::client::{HttpError, HttpErrorKind};

use super::answer::{Answered, Code, NoCredentials, TooManyBytes};
use crate::{DestinationError, Doing, MAX_LEN, ObjectName};

/// Where something went wrong, and at what.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) place: &'a str,
    pub(super) doing: Doing,
    /// The object, where one that is not there is meant.
    pub(super) name: Option<&'a ObjectName>,
}

impl<'a> At<'a> {
    pub(super) fn of(self, name: &'a ObjectName) -> Self {
        Self {
            name: Some(name),
            ..self
        }
    }

    /// Looks for what our own client of HTTP said, as the library wraps it. Texts are never taken.
    pub(super) fn error(self, error: &object_store::Error) -> DestinationError {
        if let Some(none) = within::<NoCredentials>(error) {
            return self.no_credentials(*none);
        }
        if let Some(answered) = within::<Answered>(error) {
            return self.answered(*answered);
        }
        if within::<TooManyBytes>(error).is_some() {
            return self.too_long();
        }
        if let Some(http) = within::<HttpError>(error) {
            return self.http(http.kind());
        }
        match error {
            object_store::Error::InvalidPath { .. } => self.answer(
                "a name there is no name of an object (two slashes, or a dot as a part); delete what has it, or copy the rest elsewhere",
            ),
            _ => self.answer("it is none of this service, or the file of its credentials cannot be read; check endpoint and credentials"),
        }
    }

    /// Acknowledged, and not there.
    pub(super) fn vanished(self) -> DestinationError {
        self.out_of_reach("it said that the object was made, and does not have it")
    }

    pub(super) fn answered(self, Answered { status, code }: Answered) -> DestinationError {
        let place = self.place.to_owned();
        let doing = self.doing;
        match (status, code, self.name) {
            (_, Code::NoPlace, _) => DestinationError::NoPlace { place },
            (_, Code::Unknown, _) => {
                self.credentials("its credentials are not known there; check them")
            }
            (_, Code::Expired, _) => self.credentials(
                "its credentials have expired, or this machine's clock is wrong; renew them",
            ),
            (404, _, Some(name)) => DestinationError::Missing {
                place,
                name: name.clone(),
            },
            (404, _, None) => DestinationError::NoPlace { place },
            (401, ..) => self.credentials("it asks for other credentials; check them"),
            (403, ..) => DestinationError::Denied { place, doing },
            (409 | 412, ..) => {
                self.out_of_reach("the name is taken, or being taken, and nothing is there yet")
            }
            (429 | 503, ..) => DestinationError::Busy { place },
            (408 | 500..=599, ..) => self.out_of_reach("it failed by its own fault"),
            (status, ..) => DestinationError::Refused {
                place,
                doing,
                status,
            },
        }
    }

    fn http(self, kind: HttpErrorKind) -> DestinationError {
        self.out_of_reach(match kind {
            HttpErrorKind::Connect => {
                "no connection: look at its name, its port, its certificate, and at what is between"
            }
            HttpErrorKind::Timeout => "it did not answer in time",
            HttpErrorKind::Request | HttpErrorKind::Interrupted => {
                "it ended the connection before an answer"
            }
            _ => "it ended its answer early, or what it said is no HTTP",
        })
    }

    fn no_credentials(self, NoCredentials { refused }: NoCredentials) -> DestinationError {
        match refused {
            true => self.credentials("credentials were refused to it; check the role that its environment or its machine names"),
            false => self.out_of_reach("credentials cannot be had: neither its environment has any (AWS_…, AZURE_…), nor does its machine answer"),
        }
    }

    fn too_long(self) -> DestinationError {
        let place = self.place.to_owned();
        DestinationError::TooLong {
            place,
            limit: MAX_LEN,
        }
    }

    fn out_of_reach(self, problem: &'static str) -> DestinationError {
        let place = self.place.to_owned();
        DestinationError::OutOfReach { place, problem }
    }

    fn credentials(self, problem: &'static str) -> DestinationError {
        let place = self.place.to_owned();
        DestinationError::Credentials { place, problem }
    }

    pub(super) fn answer(self, problem: &'static str) -> DestinationError {
        let place = self.place.to_owned();
        DestinationError::Answer { place, problem }
    }
}

/// An error of a type within others.
pub(super) fn within<T: Error + 'static>(error: &object_store::Error) -> Option<&T> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}
