"""The lip-sync expert that this toolkit trains: its data, objectives, alarm, and its use as a judge."""
