//! `meerkatctl completion bash`: what the shell offers at the next word.
use std::fmt::Write as _;

use super::commands::Commands;

/// Options that stand before a category.
const OPTIONS: &str = "--data-dir --url --user --password-file --cacert --help --version";

/// For bash: `source <(meerkatctl completion bash)`.
pub fn bash(commands: &Commands) -> String {
    let mut of_category = String::new();
    let mut of_command = String::new();
    let mut names = Vec::new();
    for category in &commands.categories {
        names.push(category.name.as_str());
        let list: Vec<_> = category
            .commands
            .iter()
            .filter(|command| !command.is_root)
            .map(|command| command.name.as_str())
            .collect();
        let (name, list) = (&category.name, list.join(" "));
        let _ = writeln!(of_category, "        {name}) words=\"{list} --help\" ;;");
        for command in &category.commands {
            let args = command.args.iter().map(|arg| format!("--{} ", arg.name));
            let (command, args) = (&command.name, args.collect::<String>());
            let _ = writeln!(
                of_command,
                "        {name}.{command}) words=\"{args}--help\" ;;"
            );
        }
    }
    format!(
        "# meerkatctl: completion for bash\n\
         _meerkatctl() {{\n    \
             local word=\"${{COMP_WORDS[COMP_CWORD]}}\" category=\"\" command=\"\" words=\"\" i\n    \
             for ((i = 1; i < COMP_CWORD; i++)); do\n        \
                 case \"${{COMP_WORDS[i]}}\" in\n            \
                     -*=*) ;;\n            \
                     =) ((i++)) ;;\n            \
                     --help | -h | --version | -V) ;;\n            \
                     -*) ((i++)) ;;\n            \
                     *) if [[ -z $category ]]; then category=\"${{COMP_WORDS[i]}}\"\n               \
                        elif [[ -z $command ]]; then command=\"${{COMP_WORDS[i]}}\"; fi ;;\n        \
                 esac\n    \
             done\n    \
             if [[ -z $category ]]; then\n        \
                 words=\"{names} graphql completion status stop help {OPTIONS}\"\n    \
             elif [[ -z $command ]]; then\n        \
                 case \"$category\" in\n\
         {of_category}        \
                 completion) words=\"bash\" ;;\n        \
                 esac\n    \
             else\n        \
                 case \"$category.$command\" in\n\
         {of_command}        \
                 esac\n    \
             fi\n    \
             COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n\
         }}\n\
         complete -o default -F _meerkatctl meerkatctl\n",
        names = names.join(" ")
    )
}
