"""What each result looks like to people: one function a kind of result, named after it."""
