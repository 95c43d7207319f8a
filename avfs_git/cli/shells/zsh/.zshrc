# What zsh reads for `avfs shell`: the user's own .zshrc, then the prompt's prefix and the completion of avfs.
ZDOTDIR=$AVFS_USER_ZDOTDIR
unset AVFS_USER_ZDOTDIR
[[ -f $ZDOTDIR/.zshrc ]] && . "$ZDOTDIR/.zshrc"
[[ $ZDOTDIR == $HOME ]] && unset ZDOTDIR
PROMPT="(${${AVFS_PROMPT-}//\%/%%}) $PROMPT"
if (( $+functions[compdef] && ! $+functions[_avfs_completion] )); then
    _avfs_load() { # the script is asked for at the first Tab, so that the shell starts at once
        eval "$(avfs completion zsh 2>/dev/null)"
        (( $+functions[_avfs_completion] )) && _avfs_completion "$@"
    }
    compdef _avfs_load avfs
fi
