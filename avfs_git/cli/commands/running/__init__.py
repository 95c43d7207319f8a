"""Running commands in a workspace, and what policy and people allow."""
