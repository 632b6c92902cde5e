//! The command line of both programs: words → what is asked for.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use lexopt::Arg;

use super::options::{Group, Program, Row, Takes};
use super::{Input, suggest};

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// The overview.
    Help,
    /// All about one option.
    HelpOn(&'static Row),
    /// The version.
    Version,
    /// What is wrong with these files; as JSON or not.
    Check(Vec<OsString>, bool),
    /// The expanded options.
    ShowConfig(Vec<Input>),
    /// The program's work.
    Run(Vec<Input>),
    /// The same for a command, which is the app.
    Command(Vec<Input>, Command),
    /// The licence.
    Licence,
}

/// A command, and the options of the command line that only count for one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Name and value of each; flags have a name of one letter.
    pub flags: Vec<(String, OsString)>,
    /// The program and its arguments.
    pub words: Vec<OsString>,
}

/// The options that say what is to be done, and are no keys of files.
pub const MODES: &[&str] = &["check", "help", "json", "show-config", "version"];

/// Reads the words behind the program's name. Options and files keep their order: the later one has the last word.
///
/// A program that runs commands takes its options only before the command. The command begins behind `--`, or with
/// the first word that is neither an option nor a file, by its name: `NAME.ini` or `NAME.ini:SECTION`.
///
/// # Errors
/// What is wrong with the command line, as one line.
pub fn parse(program: &Program, words: impl IntoIterator<Item = OsString>) -> Result<Invocation, String> {
    let mut parser = lexopt::Parser::from_args(words);
    let mut inputs = Vec::new();
    let mut command = Command::default();
    let (mut show, mut json, mut check) = (false, false, None::<Vec<OsString>>);
    loop {
        if program.runs_commands
            && let Some(mut rest) = parser.try_raw_args().filter(|_| !show && check.is_none())
            && rest.next_if(|word| word == "--").is_some()
        {
            command.words = rest.collect();
            if command.words.is_empty() {
                return Err("the command is missing behind '--'".to_owned());
            }
            break;
        }
        let Some(word) = parser.next().map_err(|error| error.to_string())? else { break };
        match word {
            Arg::Short('h') => return Ok(Invocation::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Invocation::Version),
            Arg::Long("help") => return help(program, &mut parser),
            Arg::Long("check") => check = Some(check.unwrap_or_default()),
            Arg::Long("json") if check.is_some() => json = true,
            Arg::Long("show-config") => show = true,
            Arg::Long(name) => {
                let name = name.to_owned();
                let row = program.find_option(&name).ok_or_else(|| unknown(program, &name))?;
                let value = match row.takes {
                    Takes::Flag => parser.optional_value(),
                    Takes::Value(_) => Some(parser.value().map_err(|error| error.to_string())?),
                };
                match row.group {
                    Group::Command => command.flags.push((name, value.unwrap_or_default())),
                    _ => inputs.push(Input::Option { key: name, value }),
                }
            }
            Arg::Short('l') if program.runs_commands => return Ok(Invocation::Licence),
            Arg::Short(letter @ ('e' | 'g' | 'p' | 's' | 'v' | 'w')) if program.runs_commands => {
                let value = match letter {
                    'e' | 'p' => parser.value().map_err(|error| error.to_string())?,
                    _ => OsString::new(),
                };
                command.flags.push((letter.to_string(), value));
            }
            Arg::Short(letter) => return Err(format!("unknown option '-{letter}'")),
            Arg::Value(word) => match &mut check {
                Some(files) => files.push(word),
                None if program.runs_commands && !show && !is_file(&word) => {
                    command.words.push(word);
                    command.words.extend(parser.raw_args().map_err(|error| error.to_string())?);
                    break;
                }
                None => inputs.push(Input::File(word)),
            },
        }
    }
    match check {
        Some(files) if files.is_empty() => Err("'--check' needs a file".to_owned()),
        Some(_) if show || !inputs.is_empty() => Err("'--check' takes files only".to_owned()),
        Some(files) => Ok(Invocation::Check(files, json)),
        None if !command.words.is_empty() => Ok(Invocation::Command(inputs, command)),
        None if program.runs_commands && inputs.is_empty() => {
            Err("a command or a configuration file is missing".to_owned())
        }
        None if inputs.is_empty() => Err("a configuration file is missing".to_owned()),
        None if show => Ok(Invocation::ShowConfig(inputs)),
        None => Ok(Invocation::Run(inputs)),
    }
}

/// Whether a word names a configuration file, and not a command.
fn is_file(word: &OsStr) -> bool {
    let name = word.as_bytes().split(|&byte| byte == b':').next().unwrap_or_default();
    name.ends_with(b".ini")
}

fn help(program: &Program, parser: &mut lexopt::Parser) -> Result<Invocation, String> {
    let name = match parser.optional_value() {
        Some(name) => name,
        None => match parser.raw_args().map_err(|error| error.to_string())?.next() {
            Some(name) => name,
            None => return Ok(Invocation::Help),
        },
    };
    let name = name.to_string_lossy();
    let name = name.trim_start_matches('-');
    let row = program.find_option(name).or_else(|| program.rows().find(|row| row.name == name));
    row.map(Invocation::HelpOn).ok_or_else(|| unknown(program, name))
}

fn unknown(program: &Program, name: &str) -> String {
    let names = program.options().map(|row| row.name).chain(MODES.iter().copied());
    match suggest::closest(name.as_bytes(), names) {
        Some(close) => format!("unknown option '--{name}': did you mean '--{close}'?"),
        None => format!("unknown option '--{name}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::VASSAL_INIT;
    use super::*;

    fn words(line: &str) -> Result<Invocation, String> {
        parse(&VASSAL_INIT, line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_and_files_keep_their_order() {
        let Ok(Invocation::Run(inputs)) = words("--uid user001 a.ini:b --no-initgroups --exec-as-user=x")
        else {
            panic!("not run")
        };
        let option =
            |key: &str, value: Option<&str>| Input::Option { key: key.into(), value: value.map(Into::into) };
        let file = Input::File("a.ini:b".into());
        let expected = [
            option("uid", Some("user001")),
            file,
            option("no-initgroups", None),
            option("exec-as-user", Some("x")),
        ];
        assert_eq!(inputs, expected);
    }

    #[test]
    fn mistakes_are_explained() {
        let error = |line: &str| words(line).unwrap_err();
        assert_eq!(
            error("--stop-tiemout 3"),
            "unknown option '--stop-tiemout': did you mean '--stop-timeout'?"
        );
        assert_eq!(error("--emperor /x"), "unknown option '--emperor'");
        assert_eq!(error("--check"), "'--check' needs a file");
        assert_eq!(error(""), "a command or a configuration file is missing");
        assert_eq!(error("--"), "the command is missing behind '--'");

        assert_eq!(error("-x"), "unknown option '-x'");
        assert_eq!(error("--json"), "unknown option '--json'");
        assert!(error("--uid").contains("uid"));
    }

    #[test]
    fn a_command_ends_the_options() {
        let command = |line: &str| match words(line) {
            Ok(Invocation::Command(inputs, command)) => {
                (inputs.len() * 10 + command.flags.len(), command.words.join(OsStr::new(" ")))
            }
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(command("-- a -s --uid"), (0, "a -s --uid".into()));
        assert_eq!(command("-sgvv -e 3 --grace 2 a --help"), (6, "a --help".into()));
        assert_eq!(command("--user 1:2 --chdir / -- a.ini"), (11, "a.ini".into()));
        assert_eq!(command("--uid 1 x.ini:s --gid 2 -- -- a"), (30, "-- a".into()));
        assert_eq!(command("x.ini a"), (10, "a".into()));
    }

    #[test]
    fn other_modes() {
        assert!(matches!(words("--help"), Ok(Invocation::Help)));
        assert!(
            matches!(words("--help exec-as-user"), Ok(Invocation::HelpOn(row)) if row.name == "exec-PHASE")
        );
        assert!(matches!(words("--help --uid"), Ok(Invocation::HelpOn(row)) if row.name == "uid"));
        assert!(matches!(words("--check --json a"), Ok(Invocation::Check(files, true)) if files.len() == 1));
        assert!(matches!(words("--check a b"), Ok(Invocation::Check(files, false)) if files.len() == 2));
        assert!(matches!(words("--show-config a"), Ok(Invocation::ShowConfig(_))));
        assert!(matches!(words("-V"), Ok(Invocation::Version)));
    }
}
