//! The sockets that PID 1 binds: those of `listen`, and uWSGI's own where it can take them over.
//!
//! uWSGI takes over the sockets it inherits, but uses one protocol for all of them. So PID 1 binds them only
//! if they have the same protocol, and if no other option makes uWSGI bind sockets itself.

use super::replicas;
use crate::config::diagnostic::Diagnostics;
use crate::config::keys::sockets::Common;
use crate::config::keys::{uwsgi, values};
use crate::config::plan::{Address, Listen, Located};
use crate::config::setting::{Setting, State};
use crate::names;
use crate::place::Place;

/// The length of the queue if `listen` gives no number: long enough for the connections that arrive while an
/// app is being replaced.
const BACKLOG: u32 = 1024;

/// uWSGI's options for sockets that it could take over, with their protocols; `socket` has that of
/// `protocol`.
const PROTOCOLS: &str = "\
    fastcgi-socket fastcgi\n\
    http-socket http\n\
    http11-socket http11\n\
    s \n\
    scgi-socket scgi\n\
    socket \n\
    uwsgi-socket uwsgi\n";

/// The protocol of an option for a socket that uWSGI could take over.
fn protocol(setting: &Setting) -> Option<&'static str> {
    let is_socket = setting.key.ends_with(b"socket") || setting.key == b"s";
    is_socket.then(|| names::text(PROTOCOLS, &setting.key))?
}

/// uWSGI's options for sockets that only uWSGI can bind. If one of them is set, uWSGI takes over no sockets.
const ITS_SOCKETS: &str = "\
    fastcgi-nph-socket https-socket puwsgi-socket raw-socket scgi-nph-socket \
    shared-socket suwsgi-socket undeferred-shared-socket";

/// uWSGI's options that count only for sockets that it binds itself.
const ITS_OWN: &str = "abstract-socket freebind map-socket zerg zerg-pool";

/// uWSGI's options for sockets of its routers, which are other processes.
const ROUTERS: &str = "fastrouter http http-to-https httprouter https https2 rawrouter sslrouter";

/// A socket with the settings of all sockets.
fn socket(common: &Common, address: Address) -> Listen {
    Listen {
        address,
        backlog: common.backlog.unwrap_or(BACKLOG),
        mode: common.mode,
        owner: common.owner.clone(),
        reuse_port: common.reuse_port,
    }
}

/// A socket of the app, from `listen`.
pub(super) fn listen(common: &Common, address: Located<Address>) -> Located<Listen> {
    Located { value: socket(common, address.value), key: address.key, at: address.at }
}

/// Takes the sockets out of uWSGI's options, and returns them with the protocol that uWSGI uses for sockets
/// that it inherits; no sockets if uWSGI has to bind them itself. With `are_several`, warns of those that
/// several instances would bind.
pub(super) fn take_over(
    common: &Common,
    are_several: bool,
    options: &mut Vec<&Setting>,
    found: &mut Diagnostics,
) -> (Vec<Located<Listen>>, Option<&'static str>) {
    // What uWSGI does not know is not compared with all the names.
    let is_any = |lists: &[&str], setting: &Setting| {
        uwsgi::has(&setting.key) && lists.iter().any(|list| names::contains(list, &setting.key))
    };
    let is_own =
        |setting: &&Setting| is_any(&[ITS_SOCKETS, ITS_OWN], setting) || setting.state == State::ForUwsgi;
    let has_own = options.iter().any(is_own);
    let has_router = options.iter().any(|setting| is_any(&[ROUTERS], setting));
    let sockets: Vec<_> = options.iter().copied().filter(|setting| protocol(setting).is_some()).collect();
    let mut bound = Some(Vec::new()).filter(|_| !has_own);
    for setting in &sockets {
        match (&mut bound, takeable(setting.text())) {
            (Some(bound), Some(address)) => bound.push(setting.locate(socket(common, address))),
            _ => bound = None,
        }
    }
    let spoken = sockets.first().and_then(|first| protocol(first)).unwrap_or_default();
    let other = sockets.iter().find(|setting| protocol(setting) != Some(spoken));
    if let (Some(first), Some(last), Some(other), Some(_)) = (sockets.first(), sockets.last(), other, &bound)
    {
        let keys = format!("'{}' and '{}'", first.name(), other.name());
        let message = format!("{keys} speak different protocols, so uWSGI binds its sockets itself");
        found.warning(&last.at, message).hint("connections are refused while it is restarted");
        for setting in options.iter().filter(|setting| are_several && is_uwsgis(setting)) {
            replicas::warn_of_address(setting, common.reuse_port, found);
        }
        return (Vec::new(), None);
    }
    for setting in options.iter() {
        let is_left = bound.is_none() && protocol(setting).is_some();
        let is_its = is_left || is_any(&[ITS_SOCKETS, ROUTERS], setting);
        let is_address = is_its || replicas::is_other_address(setting);
        let is_told =
            are_several && is_address && replicas::warn_of_address(setting, common.reuse_port, found);
        let instead = match setting.name() {
            "http" if sockets.is_empty() => Some("write 'http-socket = ADDRESS', where they wait"),
            _ if !is_left => None,
            _ => match values::address(setting.text()) {
                Err(_) => Some("write the number of the host, where they wait"),
                Ok(address) if is_relative(&address) => Some("write an absolute path, where they wait"),
                Ok(_) => None,
            },
        };
        if let Some(hint) = instead.filter(|_| !is_told) {
            let message = "uWSGI binds it itself: connections are refused while an instance is replaced";
            found.warning(&setting.value_at, format!("'{}': {message}", setting.name())).hint(hint);
        }
    }
    // uWSGI is told the protocol also for a socket that it inherits for a start on demand, but only if that
    // does not change the protocol of sockets that it binds itself.
    let is_common = bound.is_some() || !(has_own || has_router || other.is_some());
    if bound.is_some() {
        options.retain(|setting| protocol(setting).is_none());
    }
    (bound.unwrap_or_default(), Some(spoken).filter(|spoken| is_common && !spoken.is_empty()))
}

/// Whether it is an option of uWSGI for a socket.
pub(super) fn is_uwsgis(setting: &Setting) -> bool {
    protocol(setting).is_some()
        || names::contains(ITS_SOCKETS, &setting.key)
        || names::contains(ROUTERS, &setting.key)
}

/// An address that PID 1 can bind in place of uWSGI. Not a relative path, which depends on uWSGI's directory;
/// not port 0, for which uWSGI chooses the number; not `=0`, which names one of uWSGI's shared sockets.
fn takeable(text: &[u8]) -> Option<Address> {
    let mut address = values::address(text).ok()?;
    if let Place::Abstract(name) = &mut address.place {
        // uWSGI's clients expect a NUL byte at the end.
        name.push(0);
    }
    let depends = match &address.place {
        Place::File(path) => path.is_relative(),
        Place::Internet(address) => address.port() == 0,
        Place::Abstract(_) => false,
    };
    (!depends).then_some(address)
}

/// Whether it is a path in uWSGI's working directory, and not `=0`.
fn is_relative(address: &Address) -> bool {
    matches!(&address.place, Place::File(path) if path.is_relative()) && !address.name.starts_with('=')
}
