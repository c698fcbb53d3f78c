"""The authors' public SyncNet, as LSE-C and LSE-D use it: windows and face tracks."""
