//! The sockets that PID 1 binds: those of `listen`, and uWSGI's own where it can take them over.
//!
//! uWSGI takes over whatever sockets it inherits, but all with one protocol. So PID 1 binds them only where they all speak
//! the same, and nothing else asks for uWSGI's own way of binding.

use crate::config::diagnostic::Diagnostics;
use crate::config::keys::sockets::Common;
use crate::config::keys::values;
use crate::config::plan::{Address, Listen, Located};
use crate::config::setting::{Setting, State};
use crate::place::Place;

/// Connections that wait to be accepted, where `listen` gives no number. More than come while an app is replaced.
const BACKLOG: u32 = 1024;

/// uWSGI's options for sockets that it could take over, with their protocols; that of `socket` is `protocol`'s.
const PROTOCOLS: &[(&str, &str)] = &[
    ("fastcgi-socket", "fastcgi"),
    ("http-socket", "http"),
    ("http11-socket", "http11"),
    ("s", ""),
    ("scgi-socket", "scgi"),
    ("socket", ""),
    ("uwsgi-socket", "uwsgi"),
];

/// Options of uWSGI for sockets that only it can bind, which keep it from taking over others.
const ITS_SOCKETS: &[&str] = &[
    "fastcgi-nph-socket",
    "https-socket",
    "https11-socket",
    "puwsgi-socket",
    "raw-socket",
    "scgi-nph-socket",
    "shared-socket",
    "suwsgi-socket",
    "undeferred-shared-socket",
];

/// Options of uWSGI that count only for what it binds itself.
const ITS_OWN: &[&str] = &["abstract-socket", "freebind", "map-socket", "zerg", "zerg-pool"];

/// Options of uWSGI for sockets of other processes of its.
const ROUTERS: &[&str] =
    &["fastrouter", "http", "http-to-https", "httprouter", "https", "https2", "rawrouter", "sslrouter"];

/// A socket with what all of them have in common.
fn socket(common: &Common, address: Address) -> Listen {
    Listen {
        address,
        backlog: common.backlog.unwrap_or(BACKLOG),
        mode: common.mode,
        owner: common.owner.clone(),
        reuse_port: common.reuse_port,
    }
}

/// A socket of the app's, as `listen` names it.
pub(super) fn listen(common: &Common, address: Located<Address>) -> Located<Listen> {
    Located { value: socket(common, address.value), key: address.key, at: address.at }
}

/// The sockets among uWSGI's options, which are taken out, and the protocol of those that it takes over; no sockets
/// where it has to bind them itself.
pub(super) fn take_over(
    common: &Common,
    options: &mut Vec<&Setting>,
    found: &mut Diagnostics,
) -> (Vec<Located<Listen>>, Option<&'static str>) {
    let named = |setting: &Setting| PROTOCOLS.iter().find(|(name, _)| *name == setting.name());
    let is_any =
        |names: &[&[&str]], setting: &Setting| names.iter().any(|names| names.contains(&setting.name()));
    let is_own =
        |setting: &&Setting| is_any(&[ITS_SOCKETS, ITS_OWN], setting) || setting.state == State::ForUwsgi;
    let has_own = options.iter().any(is_own);
    let has_router = options.iter().any(|setting| is_any(&[ROUTERS], setting));
    let sockets: Vec<_> = options.iter().copied().filter(|setting| named(setting).is_some()).collect();
    let mut bound = Some(Vec::new()).filter(|_| !has_own);
    for setting in &sockets {
        match (&mut bound, takeable(setting.text())) {
            (Some(bound), Some(address)) => bound.push(setting.locate(socket(common, address))),
            _ => bound = None,
        }
    }
    let protocol = |setting: &Setting| named(setting).map_or("", |(_, protocol)| protocol);
    let spoken = sockets.first().map_or("", |first| protocol(first));
    let other = sockets.iter().find(|setting| protocol(setting) != spoken);
    if let (Some(first), Some(last), Some(other), Some(_)) = (sockets.first(), sockets.last(), other, &bound)
    {
        let keys = format!("'{}' and '{}'", first.name(), other.name());
        let message = format!("{keys} speak different protocols, so uWSGI binds its sockets itself");
        found.warning(&last.at, message).hint("connections are refused while it is restarted");
        return (Vec::new(), None);
    }
    for setting in options.iter() {
        let is_left = bound.is_none() && named(setting).is_some();
        if is_left || is_any(&[ITS_SOCKETS, ROUTERS], setting) {
            let message = format!("'{}' is bound by uWSGI itself", setting.name());
            let hint = "connections are refused while an instance is replaced";
            found.warning(&setting.value_at, message).hint(hint);
        }
    }
    // One that it inherits on demand speaks it, too, if that changes nothing for what it binds itself.
    let is_common = bound.is_some() || !(has_own || has_router || other.is_some());
    if bound.is_some() {
        options.retain(|setting| named(setting).is_none());
    }
    (bound.unwrap_or_default(), Some(spoken).filter(|spoken| is_common && !spoken.is_empty()))
}

/// Whether it is a socket that only uWSGI would bind.
pub(super) fn is_uwsgis(setting: &Setting) -> bool {
    let name = setting.name();
    PROTOCOLS.iter().any(|(known, _)| *known == name)
        || ITS_SOCKETS.contains(&name)
        || ROUTERS.contains(&name)
}

/// An address that means the same to us as to uWSGI. A relative path depends on where it would be, a port 0 is for it to
/// say, and `=0` is another socket of its.
fn takeable(text: &[u8]) -> Option<Address> {
    let mut address = values::address(text).ok()?;
    if let Place::Abstract(name) = &mut address.place {
        // As its own clients have it, it ends with a NUL byte.
        name.push(0);
    }
    let depends = match &address.place {
        Place::File(path) => path.is_relative(),
        Place::Internet(address) => address.port() == 0,
        Place::Abstract(_) => false,
    };
    (!depends).then_some(address)
}
