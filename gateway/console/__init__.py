"""What people and scrapers ask the recorder. Its law: reading never holds up the telling; nothing here is part of the data plane.

api    the admin listener's routes, as one aiohttp application
views  records and live streams as the JSON that the API answers with
asked  query strings read into questions, or refused with the reason
guard  who may ask: token, Host header
serve  the recorder as a process: sockets in, admin listener out

pages     the console's files, static/
livefeed  what goes on, as server-sent events, one page each
"""
