"""SyncNet: the lip-sync expert, trained as a model of its own. It makes no videos."""
