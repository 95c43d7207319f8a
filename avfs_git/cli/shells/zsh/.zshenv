# zsh reads this for `avfs shell`, because ZDOTDIR names this directory; the user's own files are read from theirs.
_avfs_dotdir=$ZDOTDIR
ZDOTDIR=${AVFS_USER_ZDOTDIR:-$HOME}
[[ -f $ZDOTDIR/.zshenv ]] && . "$ZDOTDIR/.zshenv"
AVFS_USER_ZDOTDIR=$ZDOTDIR
ZDOTDIR=$_avfs_dotdir
unset _avfs_dotdir
