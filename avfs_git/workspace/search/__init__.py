"""Full text search: words of files, and the index that finds them."""
