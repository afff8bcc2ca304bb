"""Starting and watching training jobs on a cluster, through its scheduler."""
