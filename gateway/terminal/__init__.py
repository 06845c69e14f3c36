"""What one sees of Weir at a terminal. Its law: it only asks the admin API, as anybody may; nothing here is part of what it looks at.

commands   top, tail and replay: arguments only
leaving    how a command leaves
admin      the admin API, and every reason for which it does not answer, in one line
ink        colours where they are wanted, and words of others made harmless to a terminal
tail       a line for each stream that ends
tracks     what a live feed tells of running streams
board      one look at everything, drawn as tables
top        that look once a second, on a screen of its own
recording  a record as what can be played again: which tokens came when, and how it ended
replay     a recording to the terminal
rerun      a recording as a provider that does it again to whoever asks
fetch      recordings from the admin API or a file, and that provider as a server
"""
