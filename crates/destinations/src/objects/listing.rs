//! Names of a bucket or container, page by page.

use object_store::list::{PaginatedListOptions, PaginatedListResult};

use super::{attempts::Attempts, bucket::Bucket};
use crate::{
    DestinationError, Doing, Folder, ObjectName, PAGE, Page, page::Gathering, url::Service,
};

/// The names behind `after`. Both services list in the order of bytes, which is checked.
pub(super) async fn page(
    bucket: &Bucket,
    folder: &Folder,
    after: Option<&ObjectName>,
) -> Result<Page, DestinationError> {
    let mut gathering = Gathering::new(folder, after);
    let (mut token, mut last) = (None, None);
    loop {
        let answer = ask(bucket, folder, after, token.clone()).await?;
        let keys = answer.result.objects.iter();
        for name in keys.filter_map(|object| name(bucket, object.location.as_ref())) {
            if last.as_ref().is_some_and(|last| name < *last) {
                return Err(bucket.at(Doing::List).answer("its names are in no order"));
            }
            gathering.take(name.clone());
            last = Some(name);
        }
        if gathering.is_full() || answer.page_token.is_none() {
            return Ok(gathering.page());
        }
        if answer.page_token == token {
            return Err(bucket.at(Doing::List).answer("its pages have no end"));
        }
        token = answer.page_token;
    }
}

async fn ask(
    bucket: &Bucket,
    folder: &Folder,
    after: Option<&ObjectName>,
    page_token: Option<String>,
) -> Result<PaginatedListResult, DestinationError> {
    let prefix = bucket.key(&format!("{folder}/"));
    // Azure's way to begin behind a name is young, and not known to its emulator; there we pass over what comes before.
    let after = after.filter(|_| bucket.service == Service::S3);
    let options = PaginatedListOptions {
        offset: after.map(|after| bucket.key(after.as_str())),
        max_keys: Some(most(bucket.service)),
        page_token,
        ..PaginatedListOptions::default()
    };
    let mut attempts = Attempts::default();
    loop {
        let listed = bucket.clients.own.names(&prefix, options.clone()).await;
        match listed {
            Ok(listed) => return Ok(listed),
            Err(error) => attempts.after(bucket.at(Doing::List).error(&error)).await?,
        }
    }
}

/// The most that the service gives at once; what is passed over at Azure should be few answers.
fn most(service: Service) -> usize {
    match service {
        Service::S3 => PAGE,
        Service::Azure => 2 * PAGE,
    }
}

/// The name of an object of ours that has this key.
fn name(bucket: &Bucket, key: &str) -> Option<ObjectName> {
    let name = match &*bucket.prefix {
        "" => key,
        prefix => key.strip_prefix(prefix)?.strip_prefix('/')?,
    };
    name.parse().ok()
}
