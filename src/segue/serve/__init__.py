"""The live server: events in, lists out, over HTTP.

A request passes these folders: `http` checks, decodes and batches the request; `api` has a function
for each route; `live` is the service behind the routes, without HTTP; `ranking` makes the lists.
`app` puts them together; `server` is the process. `static` holds the page.
Does not know: training, files of logs.
"""
