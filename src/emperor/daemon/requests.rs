//! Answers to the questions of clients.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use rustix::fs::readlink;

use super::emperor::Emperor;
use super::log_file::Relay;
use super::upgrade_flow;
use crate::emperor::api::control::{self, Command, Query};
use crate::emperor::api::metrics::Seen;
use crate::emperor::api::page::Page;
use crate::emperor::api::server::{Question, Service};
use crate::emperor::api::{metrics, render, stats};
use crate::emperor::core::names::is_pattern_of;
use crate::log::printable;
use crate::running_time;

/// Takes in questions, and answers them.
pub(super) fn answer(emperor: &mut Emperor, now: Instant) {
    for question in emperor.server.turn(now) {
        let text = match question.service {
            Service::Control => answer_command(emperor, &question, now),
            Service::Lock => None,
            Service::Stats | Service::Metrics => {
                let known = emperor.page.as_ref().and_then(|page| page.answer(&question, now));
                Some(known.unwrap_or_else(|| {
                    let began = running_time::now();
                    let text = page_for(emperor, &question, now);
                    let took = running_time::now().saturating_duration_since(began);
                    emperor.page = Some(Page::new(question.clone(), text.clone(), began, took));
                    text
                }))
            }
        };
        if let Some(text) = text {
            emperor.server.answer(question.client, text, now);
        }
    }
}

/// The page of stats or metrics.
fn page_for(emperor: &Emperor, question: &Question, now: Instant) -> Vec<u8> {
    let about = &emperor.about;
    let statuses = emperor.supervisor.registry().statuses(now);
    match question.service {
        Service::Metrics => {
            let supervisor = &emperor.supervisor;
            // The answers are for the next time.
            supervisor.ask_for_mountpoints(&[]);
            let vassals = statuses.into_iter().map(|status| (supervisor.usage(&status), status));
            let seen = Seen {
                uptime: now.saturating_duration_since(about.began),
                instances: (supervisor.processes(), emperor.limits.most),
                tally: supervisor.registry().tally(),
                ignored: emperor.discovery.ignored_count() as u64,
                vassals: &vassals.map(|(usage, status)| (status, usage)).collect::<Vec<_>>(),
            };
            metrics::answer(&question.text, &seen)
        }
        _ => stats::json(&about.sources, about.tyrant, &statuses, now).into_bytes(),
    }
}

/// The status of vassals, and whether something is wrong with them where that is asked for.
fn status(emperor: &Emperor, query: Query<'_>, now: Instant) -> Result<(bool, String), String> {
    let supervisor = &emperor.supervisor;
    let names = query.names();
    supervisor.ask_for_mountpoints(&names);
    let ignored = emperor.discovery.ignored(&names);
    let is_ignored = |name: &OsStr| ignored.iter().any(|file| is_pattern_of(name, file.path.file()));
    let mut vassals = supervisor.registry().statuses_of(&names, &is_ignored, now)?;
    vassals.extend(ignored);
    let summary = render::summary(&vassals);
    let is_asked_for_problems = query.has(Query::PROBLEMS);
    let states = query.value(Query::STATES);
    vassals.retain(|vassal| {
        let is_in = |states: &str| states.split(',').any(|state| state == vassal.state);
        (!is_asked_for_problems || vassal.problem.is_some()) && states.is_none_or(is_in)
    });
    let stale = emperor.upgrades.refused();
    let notes = [supervisor.registry().held_back(), emperor.discovery.silent(), supervisor.cut_off()];
    let (limits, instances) = (&emperor.limits, supervisor.processes());
    if query.has(Query::JSON) {
        let uptime = now.saturating_duration_since(emperor.about.began);
        let notes = notes.each_ref().map(String::as_str);
        let numbers = (instances, limits.most, limits.what.as_str());
        return Ok((false, render::json(&vassals, uptime, stale, notes, numbers, now)));
    }
    let columns = query.value(Query::WIDTH).and_then(|width| width.parse().ok());
    let mut text = render::table(&vassals, is_asked_for_problems, columns.unwrap_or(usize::MAX));
    let mut is_ill = vassals.iter().any(|vassal| vassal.problem.is_some());
    if names.is_empty() {
        let notes = notes.concat() + &render::stale(stale);
        is_ill |= !notes.is_empty();
        let gap = if text.is_empty() { "" } else { "\n" };
        text = text + gap + &summary + &notes + &limits.note(instances);
    } else if vassals.is_empty() {
        // None of those that were asked about.
        let none = states.map(|states| format!("none is {}; ", states.replace(',', " or ")));
        text = none.unwrap_or_default() + &summary;
    } else if !is_asked_for_problems && states.is_none() {
        for vassal in &vassals {
            text += &render::detail(vassal, vassal.pid.and_then(|pid| supervisor.memory_of(pid)), now);
        }
    }
    Ok((is_ill && (is_asked_for_problems || !names.is_empty()), text))
}

/// What is told of a vassal without a log of its own, for this reason: where that of the emperor is.
fn no_log(relay: Option<&Relay>, why: &str) -> String {
    let link = readlink(c"/proc/self/fd/2", Vec::new()).unwrap_or_default();
    let own = relay.and_then(Relay::path).map_or(link.to_string_lossy(), Path::to_string_lossy);
    let own = if own.starts_with("socket:") { "journalctl -u emperor" } else { &own };
    format!("it has no log of its own ({why}); see the emperor's: {own}")
}

/// Why a question has no answer; if it is about a file that cannot be a vassal, with the reason of that.
fn refusal(emperor: &Emperor, question: &[u8], why: String) -> String {
    let mut names = question.split(|&byte| byte == 0).skip(1).map(OsStr::from_bytes);
    let ignored = names.find_map(|name| emperor.discovery.refusal(name));
    printable(match ignored {
        Some(ignored) => why + "; " + &ignored,
        None => why,
    })
}

/// The answer to a command; `None` if it comes later.
fn answer_command(emperor: &mut Emperor, question: &Question, now: Instant) -> Option<Vec<u8>> {
    let told = match Command::read(&question.text) {
        Some(Command::Status(query)) => match status(emperor, query, now) {
            Ok((is_ill, text)) => return Some(control::health(is_ill, text)),
            Err(why) => Err(why),
        },
        Some(Command::Logs(of)) => {
            let vassals = emperor.supervisor.registry().statuses_of(&[of], &|_| false, now);
            vassals.and_then(|vassals| {
                render::places(&vassals).map_err(|why| no_log(emperor.log_relay.as_ref(), why))
            })
        }
        Some(Command::Processes(query)) => emperor.supervisor.registry().processes(&query.names(), now),
        None => Err("this emperor does not know that command".to_owned()),
        Some(_) if emperor.stopping.is_some() => Err("the emperor is stopping".to_owned()),
        Some(Command::Roll) => Ok(emperor.supervisor.roll_all(now)),
        Some(Command::Order(order, name)) => emperor.supervisor.handle_order(order, name, now).map(printable),
        Some(Command::Outcome(order, name)) => {
            let (status, text) = emperor.supervisor.registry().outcome(order, name, now);
            return Some(control::outcome(status, printable(text)));
        }
        Some(Command::Upgrade) => match upgrade_flow::begin(emperor, Some(question.client), now) {
            Ok(()) => return None,
            // May have several lines.
            Err(why) => return Some(control::answer(Err(why))),
        },
    };
    Some(control::answer(told.map_err(|why| refusal(emperor, &question.text, why))))
}
