//! TLS as it is written: towards upstreams and at listeners.

use std::path::PathBuf;

use super::disk::{Named, Use};
use super::hosts;
use super::reader::{Item, Table};
use crate::model::{ListenerTls, UpstreamTls};

/// `tls = true`, `tls = false` or a table. `sni` holds where none is written.
pub(crate) fn upstream(item: &Item<'_>, sni: &str, files: &mut Vec<Named>) -> Option<UpstreamTls> {
    if item.is_flag() {
        return item.flag()?.then(|| UpstreamTls {
            sni: sni.to_owned(),
            ca: None,
            client: None,
            verify: true,
        });
    }
    item.table(|table| {
        let written = table.take("sni");
        let sni = match &written {
            Some(written) => written.parse(hosts::host),
            None => Some(sni.to_owned()),
        };
        let ca = file(table, "ca", Use::Certificate, files);
        let certificate = file(table, "certificate", Use::Certificate, files);
        let key = file(table, "key", Use::PrivateKey, files);
        let verify = table.take("verify");
        let verify_item = verify.as_ref();
        let verify = verify_item.and_then(Item::flag).unwrap_or(true);
        if let Some(item) = verify_item.filter(|_| !verify) {
            item.warning(
                "turns verification off: anybody in between can read and alter everything",
                "name the authority in `ca` and remove this",
            );
        }
        if certificate.is_some() != key.is_some() {
            table.problem(
                "has only one of `certificate` and `key`",
                "give both for mutual TLS, or neither",
            );
        }
        Some(UpstreamTls {
            sni: sni?,
            ca,
            client: certificate.zip(key),
            verify,
        })
    })
}

/// A listener's certificate and key.
pub(crate) fn listener(item: &Item<'_>, files: &mut Vec<Named>) -> Option<ListenerTls> {
    item.table(|table| {
        let certificate = table
            .required("certificate", "certificate = \"edge.pem\"")
            .and_then(|item| named(&item, Use::Certificate, files));
        let key = table
            .required("key", "key = \"edge.key\"")
            .and_then(|item| named(&item, Use::PrivateKey, files));
        let client_ca = file(table, "client_ca", Use::Certificate, files);
        Some(ListenerTls {
            certificate: certificate?,
            key: key?,
            client_ca,
        })
    })
}

fn file(
    table: &mut Table<'_>,
    key: &'static str,
    what: Use,
    files: &mut Vec<Named>,
) -> Option<PathBuf> {
    named(&table.take(key)?, what, files)
}

/// A path whose file is looked at later, once all of the text has been read.
pub(crate) fn named(item: &Item<'_>, what: Use, files: &mut Vec<Named>) -> Option<PathBuf> {
    let path = item.path()?;
    files.push(Named {
        path: path.clone(),
        place: item.place().clone(),
        what,
    });
    Some(path)
}
