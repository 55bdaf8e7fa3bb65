//! `completion bash|zsh|fish`: scripts that ask the program itself what could come next.
//!
//! The scripts call the hidden command [`COMPLETE`] with the words typed so far; it prints one
//! candidate per line, for zsh and fish with its description behind a tab. Names of containers,
//! images, networks and volumes come from the engine, which is never started for it.

use serde_json::Value;

use crate::cli::{Cli, GLOBAL_FLAGS, print};
use crate::command::{Command, Flag, Kind};
use crate::outcome::{Failure, Outcome};
use crate::tree;

/// The hidden command.
pub(crate) const COMPLETE: &str = "__complete";

/// Runs `completion` or the hidden command.
pub(crate) fn run(cli: &Cli, word: &str, rest: Vec<String>) -> Outcome {
    if word == COMPLETE {
        let lines = candidates(cli, &rest);
        let text: String = lines
            .into_iter()
            .map(|(word, about)| format!("{word}\t{about}\n"))
            .collect();
        return Ok(print(&text)?);
    }
    let name = &cli.name;
    let script = match rest.first().map(String::as_str) {
        Some("bash") => BASH,
        Some("zsh") => ZSH,
        Some("fish") => FISH,
        None | Some("--help" | "-h") => {
            return Ok(print(&format!(
                "Usage:  {name} completion COMMAND\n\nGenerate the autocompletion script for {name} for the specified shell.\nSee each sub-command's help for details on how to use the generated script.\n\nCommands:\n  bash        Generate the autocompletion script for bash\n  fish        Generate the autocompletion script for fish\n  zsh         Generate the autocompletion script for zsh\n\nRun '{name} completion COMMAND --help' for more information on a command.\n"
            ))?);
        }
        Some(shell) => {
            return Err(Failure::new(format!(
                "{name}: unknown command: {name} completion {shell}\n\nUsage:  {name} completion\n\nRun '{name} completion --help' for more information"
            )));
        }
    };
    if rest.iter().any(|word| word == "--help" || word == "-h") {
        let shell = &rest[0];
        return Ok(print(&format!(
            "Usage:  {name} completion {shell}\n\nGenerate the autocompletion script for {shell}: load it with\n\n\t{}\n",
            match shell.as_str() {
                "fish" => format!("{name} completion fish | source"),
                _ => format!("source <({name} completion {shell})"),
            }
        ))?);
    }
    Ok(print(&script.replace("@NAME@", name))?)
}

/// What may follow the words; the last one is being typed.
fn candidates(cli: &Cli, words: &[String]) -> Vec<(String, String)> {
    let Some((typed, before)) = words.split_last() else {
        return Vec::new();
    };
    let all = match descend(before) {
        Place::Top => {
            let mut all: Vec<(String, String)> = tree::top_level()
                .map(|(name, short)| (name.to_owned(), short.to_owned()))
                .collect();
            let more = [("completion", "Generate the autocompletion script")];
            let own = more.iter().chain(cli.hooks.extra_commands);
            all.extend(own.map(|(name, about)| ((*name).to_owned(), (*about).to_owned())));
            if typed.starts_with('-') {
                all = flags(GLOBAL_FLAGS);
            }
            all
        }
        Place::Group(group) => {
            let shown = group.nodes.iter().filter(|node| !node.hidden);
            shown
                .map(|node| (node.name.to_owned(), node.command.short.to_owned()))
                .collect()
        }
        Place::Command(command) if typed.starts_with('-') => flags(command.flags),
        Place::Command(command) => objects(cli, command.usage),
        Place::Nothing => Vec::new(),
    };
    let mut found: Vec<(String, String)> = all
        .into_iter()
        .filter(|(word, _)| word.starts_with(typed.as_str()))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Where the words have led.
enum Place {
    Top,
    Group(&'static tree::Group),
    Command(&'static Command),
    /// A flag waits for a value only the user knows.
    Nothing,
}

fn descend(words: &[String]) -> Place {
    let mut place = Place::Top;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(flag) = word.strip_prefix('-') {
            let table = match &place {
                Place::Command(command) => command.flags,
                _ => GLOBAL_FLAGS,
            };
            let named = table.iter().find(|known| match flag.strip_prefix('-') {
                Some(long) => known.name == long,
                None => known.short.is_some_and(|short| flag.ends_with(short)),
            });
            if named.is_some_and(|known| known.kind != Kind::Bool) && words.next().is_none() {
                return Place::Nothing;
            }
            continue;
        }
        place = match place {
            Place::Top => match (tree::find(word), tree::group(word)) {
                (Some(node), _) => Place::Command(node.command),
                (None, Some(group)) => Place::Group(group),
                (None, None) => return Place::Nothing,
            },
            Place::Group(group) => match group.find(word) {
                Some(node) => Place::Command(node.command),
                None => return Place::Nothing,
            },
            other => other,
        };
    }
    place
}

fn flags(table: &[Flag]) -> Vec<(String, String)> {
    let about = |flag: &Flag| flag.help.lines().next().unwrap_or_default().to_owned();
    table
        .iter()
        .filter(|flag| !flag.hidden)
        .map(|flag| (format!("--{}", flag.name), about(flag)))
        .collect()
}

/// Names of the kind of object the usage speaks of.
fn objects(cli: &Cli, usage: &str) -> Vec<(String, String)> {
    let has = |word: &str| usage.contains(word);
    let (path, list): (&str, fn(&Value) -> Vec<String>) = if has("CONTAINER") {
        ("/containers/json?all=1", |answer| {
            let all = answer.as_array().into_iter().flatten();
            let names = all
                .flat_map(|container| container["Names"].as_array().cloned().unwrap_or_default());
            names
                .filter_map(|name| Some(name.as_str()?.trim_start_matches('/').to_owned()))
                .collect()
        })
    } else if has("IMAGE") || has("REPOSITORY") {
        ("/images/json", |answer| {
            let all = answer.as_array().into_iter().flatten();
            let tags =
                all.flat_map(|image| image["RepoTags"].as_array().cloned().unwrap_or_default());
            tags.filter_map(|tag| {
                tag.as_str()
                    .filter(|tag| *tag != "<none>:<none>")
                    .map(str::to_owned)
            })
            .collect()
        })
    } else if has("NETWORK") {
        ("/networks", |answer| named(answer))
    } else if has("VOLUME") {
        ("/volumes", |answer| named(&answer["Volumes"]))
    } else {
        return Vec::new();
    };
    let Ok(client) = cli.client_without_autostart() else {
        return Vec::new();
    };
    let answer = cli.block_on(client.get(path)).unwrap_or(Value::Null);
    list(&answer)
        .into_iter()
        .map(|name| (name, String::new()))
        .collect()
}

fn named(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry["Name"].as_str()?.to_owned()))
        .collect()
}

const BASH: &str = r#"# bash completion for @NAME@
_@NAME@_complete() {
    local IFS=$'\n' line words
    # Bash splits words at colons, which image names contain: the words are taken whole.
    words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    COMPREPLY=()
    while IFS=$'\t' read -r line _; do
        COMPREPLY+=("$line")
    done < <(@NAME@ __complete "${words[@]}" 2>/dev/null)
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "${COMP_WORDS[COMP_CWORD]}"
    fi
}
complete -o default -F _@NAME@_complete @NAME@
"#;

const ZSH: &str = r#"#compdef @NAME@
_@NAME@() {
    local -a found
    local word about
    while IFS=$'\t' read -r word about; do
        found+=("${word//:/\\:}${about:+:$about}")
    done < <(@NAME@ __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#found} )); then
        _describe '@NAME@' found
    else
        _files
    fi
}
compdef _@NAME@ @NAME@
"#;

const FISH: &str = r#"# fish completion for @NAME@
function __@NAME@_complete
    set -l words (commandline -opc) (commandline -ct)
    @NAME@ __complete $words[2..-1] 2>/dev/null
end
complete -c @NAME@ -f -a '(__@NAME@_complete)'
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(words: &[&str]) -> Place {
        descend(
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn words_lead_to_their_place() {
        assert!(matches!(place(&[]), Place::Top));
        assert!(matches!(place(&["-H", "x"]), Place::Top));
        assert!(matches!(place(&["container"]), Place::Group(group) if group.name == "container"));
        assert!(
            matches!(place(&["container", "ls", "-a"]), Place::Command(command) if command.usage == "[OPTIONS]")
        );
        assert!(matches!(place(&["run", "--name"]), Place::Nothing));
        assert!(matches!(place(&["nonsense"]), Place::Nothing));
    }
}
