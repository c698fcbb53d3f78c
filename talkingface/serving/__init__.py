"""The server: jobs over HTTP, a page for the browser, live streams; generation runs in processes of their own."""
